package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// at is an instant some milliseconds after a tick of the year 2026.
func at(tick int64, millis int64) time.Time { return time.Unix(tick, millis*1e6) }

// planOf gives a planner that knows the model's jobs.
func planOf(t testing.TB, m *model) *planner {
	p := newPlanner(newSchedules(compile))
	p.sync(view{m}, noBad(t))
	return p
}

func noBad(t testing.TB) func(string, error) {
	return func(job string, err error) { t.Errorf("schedule of %s: %v", job, err) }
}

// TestPlanAges holds the planner to the rule of a gap: up to 2 s late is in time, up to the grace is made up, and
// what is older is missed.
func TestPlanAges(t *testing.T) {
	const tick = 1_767_225_600 // a whole minute
	for _, c := range []struct {
		grace time.Duration
		now   time.Time
		want  string
	}{
		{time.Minute, at(tick-1, 999), "none"},
		{time.Minute, at(tick, 0), "tick"},
		{time.Minute, at(tick+2, 0), "tick"},
		{time.Minute, at(tick+2, 1), "misfire"},
		{time.Minute, at(tick+59, 999), "misfire"},
		{time.Minute, at(tick+60, 0), "missed"},
		{0, at(tick, 0), "tick"},
		{0, at(tick+2, 0), "tick"},
		{0, at(tick+2, 1), "missed"},
		{time.Second, at(tick+2, 0), "tick"},
		{3500 * time.Millisecond, at(tick+3, 499), "misfire"},
		{3500 * time.Millisecond, at(tick+3, 500), "missed"},
	} {
		m := newModel(time.Now)
		j := testJob("j")
		j.Schedule.Year, j.MisfireGrace = "2026", c.grace
		m.put(j, tick-1)
		claims := planOf(t, m).due(c.now, true)
		got := "none"
		for _, claim := range claims {
			if claim.Tick != tick {
				continue // the next minute's, with the longest ages
			}
			if got = claim.Cause; claim.Skip != 0 {
				got = claim.Skip.String()
			}
		}
		if got != c.want {
			t.Errorf("grace %s, %s late: %s, want %s", c.grace, c.now.Sub(at(tick, 0)), got, c.want)
		}
	}
}

// TestPlanOrder: one plan has the ticks of all jobs in their order, and a gap of one job as one series.
func TestPlanOrder(t *testing.T) {
	m := newModel(time.Now)
	for i, sec := range []string{"*/20", "*/30", "*"} {
		j := testJob(fmt.Sprint("j", i))
		j.Schedule.Sec, j.MisfireGrace = sec, []time.Duration{time.Minute, time.Minute, 0}[i]
		m.put(j, 1200)
	}
	var got []string
	p := planOf(t, m)
	for claims := p.due(at(1300, 0), true); len(claims) > 0; claims = p.due(at(1300, 0), true) {
		for _, c := range claims {
			got = append(got, fmt.Sprintf("%s %d-%d %d %s%s", c.Job, c.Tick, c.Last, c.Count, c.Cause, skipWord(c.Skip)))
		}
		accept(t, p, m, claims)
	}
	want := []string{
		"j2 1201-1297 97 missed", "j0 1220-1240 2 missed", "j1 1230-1230 1 missed",
		"j0 1260-0 0 misfire", "j1 1260-0 0 misfire", "j0 1280-0 0 misfire", "j1 1290-0 0 misfire",
		"j2 1298-0 0 tick", "j2 1299-0 0 tick", "j0 1300-0 0 tick", "j2 1300-0 0 tick",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// accept has the model take claims.
func accept(t *testing.T, p *planner, m *model, claims []saltpeter.Claim) {
	t.Helper()
	results := make([]saltpeter.ClaimResult, len(claims))
	for i, c := range claims {
		results[i] = saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun}
		if c.Skip != 0 {
			results[i] = saltpeter.ClaimResult{Outcome: saltpeter.ClaimSkipped, Skip: c.Skip}
		}
		m.jobs[c.Job].mark = max(c.Tick, c.Last)
	}
	if _, again := p.settle(view{m}, claims, results, noBad(t)); again {
		t.Fatal("what was taken is to be planned again")
	}
}

func skipWord(r saltpeter.SkipReason) string {
	if r == 0 {
		return ""
	}
	return r.String()
}

// TestPlanInParts: what is too much for one plan comes in several, complete and in order.
func TestPlanInParts(t *testing.T) {
	m := newModel(time.Now)
	j := testJob("missed")
	j.Schedule.Sec, j.MisfireGrace = "*", 0
	m.put(j, 0)
	for i := range 3 {
		j := testJob(fmt.Sprint("made up ", i))
		j.Schedule.Sec, j.MisfireGrace = "*", 10_000*time.Second
		m.put(j, 2_499_999-9_000)
	}
	p := planOf(t, m)
	now := at(2_500_000, 0)
	marks := map[string]int64{"missed": 0, "made up 0": 2_490_999, "made up 1": 2_490_999, "made up 2": 2_490_999}
	plans := 0
	for claims := p.due(now, true); len(claims) > 0; claims = p.due(now, true) {
		plans++
		if len(claims) > maxClaims {
			t.Fatalf("%d claims in one plan", len(claims))
		}
		for _, c := range claims {
			if c.Tick != marks[c.Job]+1 {
				t.Fatalf("%s: %d after %d", c.Job, c.Tick, marks[c.Job])
			}
			if marks[c.Job] = max(c.Tick, c.Last); c.Count > maxCount || c.Skip != 0 && int64(c.Count) != c.Last-c.Tick+1 {
				t.Fatalf("series %+v", c)
			}
		}
		accept(t, p, m, claims)
	}
	for job, mark := range marks {
		if mark != 2_500_000 {
			t.Errorf("%s is planned up to %d", job, mark)
		}
	}
	if plans < 4 {
		t.Errorf("%d plans: the limits were not met", plans)
	}
}

// TestSyncTouchesOnlyChanges: jobs that did not change are neither compiled again nor moved.
func TestSyncTouchesOnlyChanges(t *testing.T) {
	m := newModel(time.Now)
	compiled := 0
	counting := newSchedules(func(s saltpeter.Schedule) (ticks, error) { compiled++; return compile(s) })
	for i := range 100 {
		j := testJob(fmt.Sprintf("j%d", i))
		j.Schedule.Sec = fmt.Sprint(i % 10)
		m.put(j, 1000)
	}
	p := newPlanner(counting)
	p.sync(view{m}, noBad(t))
	if compiled != 10 {
		t.Fatalf("compiled %d schedules of 10 texts", compiled)
	}
	changed := testJob("j5")
	changed.Schedule.Sec = "33"
	m.put(changed, 1005)
	delete(m.jobs, "j6")
	m.jobs["j7"].mark = 5000
	if latest := p.sync(view{m}, noBad(t)); latest != 5000 || compiled != 11 || len(p.jobs) != 99 {
		t.Errorf("latest mark %d, compiled %d, jobs %d", latest, compiled, len(p.jobs))
	}
	if got := []int64{p.jobs["j4"].next, p.jobs["j5"].next, p.jobs["j7"].next}; !slices.Equal(got, []int64{1024, 1053, 5047}) {
		t.Errorf("next ticks %v", got)
	}
	for _, j := range p.jobs {
		if p.heap.items[j.slot] != j {
			t.Fatalf("%s is lost in the heap", j.name)
		}
	}
}

// TestPlanWithoutTicks: a job that is never due, and one whose schedule can't be compiled, cost nothing and harm nobody.
func TestPlanWithoutTicks(t *testing.T) {
	m := newModel(time.Now)
	never, bad := testJob("never"), testJob("bad")
	never.Schedule.Year, bad.Schedule.Sec = "1971", "x"
	m.put(never, 1_767_225_600)
	m.put(bad, 1_767_225_600)
	m.put(testJob("good"), 1_767_225_600)
	var told []string
	p := newPlanner(newSchedules(compile))
	p.sync(view{m}, func(job string, err error) { told = append(told, job) })
	if claims := p.due(at(1_767_225_660, 0), true); len(claims) != 1 || claims[0].Job != "good" {
		t.Errorf("claims %+v", claims)
	}
	if !slices.Equal(told, []string{"bad"}) {
		t.Errorf("told of %q", told)
	}
	m.jobs["good"].mark = 1_767_225_660
	repaired := testJob("bad")
	m.put(repaired, 1_767_225_600)
	p.sync(view{m}, noBad(t))
	if claims := p.due(at(1_767_225_660, 0), true); len(claims) != 1 || claims[0].Job != "bad" {
		t.Errorf("claims after the repair %+v", claims)
	}
}

// TestSettle: whatever the record answers, the planner goes on from what the record says.
func TestSettle(t *testing.T) {
	for _, outcome := range []saltpeter.ClaimOutcome{saltpeter.ClaimDecided, saltpeter.ClaimStale, saltpeter.ClaimEarly} {
		m := newModel(time.Now)
		j := testJob("j")
		j.MisfireGrace = 2 * time.Minute
		m.put(j, 1199)
		p := planOf(t, m)
		claims := p.due(at(1260, 0), true)
		if len(claims) != 2 {
			t.Fatalf("claims %+v", claims)
		}
		var want int64
		switch outcome {
		case saltpeter.ClaimDecided: // a window was lifted meanwhile
			m.jobs["j"].mark, want = 1270, 1320
		case saltpeter.ClaimStale: // another definition
			j := testJob("j")
			j.Schedule.Sec = "7"
			m.put(j, 1259)
			want = 1267
		case saltpeter.ClaimEarly: // nothing was decided
			want = 1200
		}
		results := []saltpeter.ClaimResult{{Outcome: outcome}, {Outcome: outcome}}
		if runs, again := p.settle(view{m}, claims, results, noBad(t)); len(runs) > 0 || !again {
			t.Errorf("%d: runs %v, again %v", outcome, runs, again)
		}
		if next, _, ok := p.next(); !ok || next != want {
			t.Errorf("%d: next %d, want %d", outcome, next, want)
		}
	}
	m := newModel(time.Now)
	m.put(testJob("j"), 1199)
	p := planOf(t, m)
	claims := p.due(at(1200, 0), true)
	delete(m.jobs, "j")
	p.settle(view{m}, claims, []saltpeter.ClaimResult{{Outcome: saltpeter.ClaimStale}}, noBad(t))
	if _, _, ok := p.next(); ok || len(p.jobs) > 0 {
		t.Error("a job that is gone is still planned")
	}
}

// A series whose first tick was decided before goes on behind it: its other ticks are not decided yet, and nothing behind them
// may have been planned.
func TestSettleARestOfASeries(t *testing.T) {
	m := newModel(time.Now)
	m.put(testJob("j"), 1199)
	p := planOf(t, m)
	claims := p.due(at(1400, 0), true)
	if len(claims) != 1 || claims[0].Last <= claims[0].Tick {
		t.Fatalf("claims %+v", claims)
	}
	m.jobs["j"].mark = claims[0].Tick
	p.settle(view{m}, claims, []saltpeter.ClaimResult{{Outcome: saltpeter.ClaimRun, Run: 7}}, noBad(t))
	rest := p.due(at(1400, 0), true)
	if len(rest) != 1 || rest[0].Tick <= claims[0].Tick || rest[0].Last != claims[0].Last || rest[0].Count != claims[0].Count-1 {
		t.Fatalf("rest %+v of %+v", rest, claims)
	}
	accept(t, p, m, rest)
	if next := p.due(at(1400, 0), true); len(next) == 0 || next[0].Tick <= rest[0].Last {
		t.Errorf("then %+v", next)
	}
}

// TestSchedulesForget: compiled schedules are bounded, whatever configurations come by.
func TestSchedulesForget(t *testing.T) {
	s := newSchedules(func(saltpeter.Schedule) (ticks, error) { return nil, nil })
	for i := range keepSchedules + 10 {
		if _, err := s.get(saltpeter.Schedule{Sec: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.known); n > keepSchedules {
		t.Errorf("%d are kept", n)
	}
	wrong := errors.New("wrong")
	s.compile = func(saltpeter.Schedule) (ticks, error) { return nil, wrong }
	if _, err := s.get(saltpeter.Schedule{Sec: "new"}); !errors.Is(err, wrong) {
		t.Errorf("error %v", err)
	}
}

// TestCompileReadsAllOfASchedule: zone and day_match reach the compiler.
func TestCompileReadsAllOfASchedule(t *testing.T) {
	s := saltpeter.Schedule{Sec: "0", Min: "0", Hour: "12", Dom: "13", Mon: "*", Dow: "5", Year: "*", Timezone: "Europe/Bucharest"}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	next := func(s saltpeter.Schedule) string {
		c, err := compile(s)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := c.NextUnix(start)
		return time.Unix(n, 0).UTC().Format(time.RFC3339)
	}
	if got := next(s); got != "2026-02-13T10:00:00Z" {
		t.Errorf("a Friday 13th: %s", got)
	}
	s.MatchAny = true
	if got := next(s); got != "2026-01-02T10:00:00Z" {
		t.Errorf("a Friday or 13th: %s", got)
	}
	for _, bad := range []saltpeter.Schedule{{Sec: "0", Min: "61", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"}, {Timezone: "Mars/Olympus"}} {
		if _, err := compile(bad); err == nil {
			t.Errorf("%+v was compiled", bad)
		}
	}
}
