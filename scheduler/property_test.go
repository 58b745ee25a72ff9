package scheduler

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"pgregory.net/rapid"
)

// world is what the property test plays with: honest state machine, wall clock, and one planner per leadership. For each
// job it knows by brute force which ticks must be decided.
type world struct {
	t    *rapid.T
	m    *model
	now  time.Time
	p    *planner
	jobs map[string]*fate
}

// fate is what must become of a job's ticks: all that are due in (from, mark], and nothing else, exactly once.
type fate struct {
	step  int64 // due at every multiple
	grace time.Duration
	from  int64
	must  map[int64]bool // due in stretches that are over
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: at(1_767_225_600, 0), jobs: map[string]*fate{}}
	w.m = newModel(func() time.Time { return w.now })
	w.m.mute, w.m.term = true, 1
	return w
}

func (w *world) elect() {
	w.m.term++
	w.p = newPlanner(newSchedules(compile))
	w.sync()
}

func (w *world) sync() { w.p.sync(view{w.m}, w.bad) }

func (w *world) bad(job string, err error) { w.t.Fatalf("schedule of %s: %v", job, err) }

// put brings a definition in force. The loop has claimed every tick up to that instant before it.
func (w *world) put(t *rapid.T, name string) {
	steps := []int64{1, 2, 3, 7, 20, 30, 60}
	f := &fate{step: rapid.SampledFrom(steps).Draw(t, "step"), must: map[int64]bool{}}
	f.grace = time.Duration(rapid.SampledFrom([]int64{0, 1, 5, 60, 600}).Draw(t, "grace")) * time.Second
	j := testJob(name)
	j.Schedule.Sec, j.MisfireGrace = "*/"+strconv.FormatInt(f.step, 10), f.grace
	if f.step == 60 {
		j.Schedule.Sec = "0"
	}
	if old := w.jobs[name]; old != nil {
		w.close(name, old)
		f.must = old.must
	}
	w.m.put(j, w.now.Unix())
	f.from = w.m.jobs[name].mark
	w.jobs[name] = f
}

// due lists by brute force: a job with step n is due in each minute at the seconds that n divides.
func (f *fate) due(tick int64) bool { return (tick%60)%f.step == 0 }

// close notes what the stretch that ends must have decided.
func (w *world) close(name string, f *fate) {
	for tick := f.from + 1; tick <= w.m.jobs[name].mark; tick++ {
		if f.due(tick) {
			f.must[tick] = true
		}
	}
	f.from = w.m.jobs[name].mark
}

// work plans and claims until nothing is due. With trouble a change comes between plan and claim, or the leadership ends
// with the claim committed or not.
func (w *world) work(t *rapid.T, trouble string) {
	for {
		claims := w.p.due(w.now, true)
		if len(claims) == 0 {
			return
		}
		w.checkAges(t, claims)
		switch trouble {
		case "lost", "unknown":
			if trouble == "unknown" {
				w.claim(t, claims)
			}
			w.elect()
		case "lifted":
			for name := range w.jobs {
				w.lift(name)
				break
			}
			fallthrough
		default:
			results := w.claim(t, claims)
			w.p.settle(view{w.m}, claims, results, w.bad)
		}
		trouble = ""
	}
}

func (w *world) claim(t *rapid.T, claims []saltpeter.Claim) []saltpeter.ClaimResult {
	results, err := record{w.m, w.m.term}.Claim(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome == saltpeter.ClaimEarly {
			t.Fatalf("claimed before its tick: %+v at %s", claims[i], w.now)
		}
	}
	return results
}

// checkAges holds each claim to the rule of the gap.
func (w *world) checkAges(t *rapid.T, claims []saltpeter.Claim) {
	for _, c := range claims {
		f := w.jobs[c.Job]
		for _, tick := range []int64{c.Tick, max(c.Tick, c.Last)} {
			age := w.now.Sub(time.Unix(tick, 0))
			missed := age > 2*time.Second && age >= f.grace
			if age < 0 || missed != (c.Skip == saltpeter.SkipMissed) || !missed && (c.Cause == "misfire") != (age > 2*time.Second) {
				t.Fatalf("%+v at age %s, grace %s", c, age, f.grace)
			}
		}
	}
}

// lift is the end of a window: the mark moves to its commit, and what lay before was the window's.
func (w *world) lift(name string) {
	f := w.jobs[name]
	w.close(name, f)
	w.m.jobs[name].mark = max(w.m.jobs[name].mark, w.now.Unix())
	f.from = w.m.jobs[name].mark
}

// check holds the record against brute force.
func (w *world) check(t *rapid.T) {
	for name, f := range w.jobs {
		w.close(name, f)
		j := w.m.jobs[name]
		decided := map[int64]string{}
		decide := func(tick int64, how string) {
			if decided[tick] != "" {
				t.Fatalf("%s %d decided twice: %s, %s", name, tick, decided[tick], how)
			}
			decided[tick] = how
		}
		for tick, run := range j.ticks {
			decide(tick, fmt.Sprint("run ", run))
		}
		for _, s := range j.skips {
			n := uint64(0)
			for tick := s.First; tick <= s.Last; tick++ {
				if f.must[tick] {
					decide(tick, s.Reason.String())
					n++
				}
			}
			if n != s.Count {
				t.Fatalf("%s: %+v covers %d ticks", name, s, n)
			}
		}
		for tick := range f.must {
			if decided[tick] == "" {
				t.Fatalf("%s %d was lost", name, tick)
			}
		}
		if len(decided) != len(f.must) {
			t.Fatalf("%s: %d ticks decided, %d were due", name, len(decided), len(f.must))
		}
	}
}

// TestNoTickLost is G2 of the planner: over random schedules, pauses, changes, clock steps and changes of leader every tick is
// claimed or recorded exactly once, none before its time.
func TestNoTickLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for i := range rapid.IntRange(1, 4).Draw(t, "jobs") {
			w.put(t, fmt.Sprint("job", i))
		}
		w.elect()
		latest := w.now
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			name := fmt.Sprint("job", rapid.IntRange(0, len(w.jobs)-1).Draw(t, "which"))
			switch rapid.SampledFrom([]string{"go", "go", "go", "wait", "elect", "put", "pause", "lift", "back"}).Draw(t, "what") {
			case "go":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 90_000).Draw(t, "ms")) * time.Millisecond)
				w.work(t, rapid.SampledFrom([]string{"", "", "lost", "unknown", "lifted"}).Draw(t, "trouble"))
			case "wait":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "s")) * time.Second)
			case "elect":
				w.elect()
			case "put":
				w.work(t, "")
				w.put(t, name)
				w.sync()
			case "pause":
				w.m.jobs[name].paused = !w.m.jobs[name].paused
			case "lift":
				w.lift(name)
				w.sync()
			case "back":
				w.now = w.now.Add(-time.Duration(rapid.IntRange(1, 100_000).Draw(t, "ms")) * time.Millisecond)
			}
			if w.now.After(latest) {
				latest = w.now
			}
			w.check(t)
		}
		w.now = latest.Add(time.Minute)
		w.work(t, "")
		w.check(t)
		for name, f := range w.jobs {
			for tick := w.m.jobs[name].mark + 1; tick <= w.now.Unix(); tick++ {
				if f.due(tick) {
					t.Fatalf("%s %d is due and was not decided", name, tick)
				}
			}
		}
	})
}
