package scheduler

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios give into their files")

// TestScenarios plays the files of testdata/lead, each in a bubble of its own: commands, then "----", then what the
// record and the launcher saw, with seconds since the beginning (midnight of 2000-01-01, UTC).
//
//	job NAME [sec=] [hour=] [grace=] [number=] [batch=] [direct]   put a job in force; it starts now
//	drop NAME, pause NAME, resume NAME                                 resume moves the mark, as lifting a pause does
//	set KEY=DURATION …                                                 settings: lost, window, silence, ping, retry
//	machines NAME…, down NAME…, maintenance NAME…                      what the launcher knows, what the record knows
//	launcher none|local|lossy, resolve|publish|ping ok|hang|ERROR            what the launcher does
//	lead, depose                                                       begin a term, end it
//	advance DURATION, freeze DURATION                                  time goes by; freeze: while this process is stopped
//	jump DURATION, clock alone|agreed|none|apart DURATION              the wall clock steps; what the others say of it
//	hello LAUNCH NAME…, heard RUN NAME…                                signs of life
//	back RUN NAME…, result RUN NAME…                                   a lost winner comes back, says how it ended
//	STATE RUN NAME…                                                    a wrapper's word: granted, started, ok, failed; * = all
//	kill RUN, config [in DURATION], status                             a person's
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/lead/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(data)) })
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s differs (see it with -rewrite):\n%s", file, difference(string(data), got))
			}
		})
	}
}

// difference gives the lines around the first one that differs.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		i++
	}
	near := func(lines []string) string {
		return strings.Join(lines[max(0, min(i-3, len(lines))):min(i+5, len(lines))], "\n")
	}
	return fmt.Sprintf("line %d\n--- want\n%s\n--- got\n%s", i+1, near(w), near(g))
}

// play runs a scenario and gives it with the output that it had.
func play(t *testing.T, text string) string {
	s := newStage(t)
	defer s.depose()
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		out.WriteString(commands + "\n----\n")
		for line := range strings.Lines(commands) {
			if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
				if err := s.do(f); err != nil {
					t.Fatalf("%s: %v", strings.TrimSpace(line), err)
				}
				synctest.Wait()
			}
		}
		for _, line := range s.m.take() {
			out.WriteString(line + "\n")
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// stage is a scheduler with a model and fakes around it.
type stage struct {
	t       *testing.T
	m       *model
	f       *launcher
	sched   *Scheduler
	none    atomic.Bool // no launcher
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	clockMu sync.Mutex // guards step and clock
	step    time.Duration
	clock   func() (time.Duration, bool, error)
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, clock: func() (time.Duration, bool, error) { return 0, true, nil }}
	s.m = newModel(s.wall)
	s.f = &launcher{m: s.m, machines: []string{"a", "b"}, down: map[string]bool{}}
	s.sched = New(Options{
		Record: func(term uint64) Record { return record{s.m, term} },
		Launcher: func(*saltpeter.Settings) Launcher {
			if s.none.Load() {
				return nil
			}
			return s.f
		},
		Clocks: s, Wall: s.wall,
	})
	s.m.told = s.sched.Changed
	return s
}

func (s *stage) wall() time.Time {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	return time.Now().Add(s.step)
}

func (s *stage) Agreed(context.Context) (time.Duration, bool, error) {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	return s.clock()
}

func (s *stage) lead() {
	s.m.mu.Lock()
	s.m.term++
	term := s.m.term
	s.m.mu.Unlock()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.cancel = cancel
	s.wg.Go(func() {
		if err := s.sched.Lead(ctx, term); err != nil {
			s.m.noteLocked("lead ended: %v", err)
		}
	})
}

func (s *stage) depose() {
	if s.cancel != nil {
		s.cancel()
	}
	s.wg.Wait()
}

func (s *stage) do(f []string) error {
	rest := f[1:]
	switch f[0] {
	case "job":
		return s.job(rest)
	case "drop", "pause", "resume":
		return s.turn(f[0], rest[0])
	case "set":
		return s.set(rest)
	case "machines", "down", "maintenance":
		s.machines(f[0], rest)
	case "launcher":
		s.none.Store(rest[0] == "none")
		s.f.mu.Lock()
		s.f.lossy = rest[0] == "lossy"
		s.f.mu.Unlock()
	case "resolve":
		s.answer(&s.f.resolve, rest)
	case "publish":
		s.answer(&s.f.publish, rest)
	case "ping":
		s.answer(&s.f.ping, rest)
	case "lead":
		s.lead()
	case "depose":
		s.depose()
	case "config":
		return s.config(rest)
	case "status":
		st := s.sched.Status()
		s.m.noteLocked("leading=%v jobs=%d driven=%d watched=%d alarm=%q", st.Leading, st.Jobs, st.Driven, st.Watched, st.Alarm)
	case "advance", "freeze", "jump", "clock":
		return s.time(f[0], rest)
	default:
		return s.word(f)
	}
	return nil
}

func (s *stage) machines(what string, list []string) {
	set := make(map[string]bool)
	for _, name := range list {
		set[name] = true
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch what {
	case "machines":
		s.f.machines = list
	case "down":
		s.f.down = set
	case "maintenance":
		s.m.maintenance = set
	}
}

func (s *stage) answer(what *string, rest []string) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if *what = strings.Join(rest, " "); *what == "ok" {
		*what = ""
	}
}

// testJob is a definition with the defaults of the settings.
func testJob(name string) *saltpeter.Job {
	return &saltpeter.Job{
		Name: name, Schedule: saltpeter.Schedule{Sec: "0", Min: "*", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
		Targets: []string{"*"}, TargetType: "glob", UseWrapper: true, Start: saltpeter.StartClaim, MisfireGrace: time.Minute,
	}
}

func (s *stage) job(f []string) (err error) {
	j := testJob(f[0])
	for _, option := range f[1:] {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "sec":
			j.Schedule.Sec = value
		case "hour": // once a day
			j.Schedule.Min, j.Schedule.Hour = "0", value
		case "grace":
			j.MisfireGrace, err = time.ParseDuration(value)
		case "number":
			j.NumberOfTargets, err = strconv.Atoi(value)
		case "batch":
			j.Batch.Size, err = strconv.Atoi(value)
		case "direct":
			j.Start = saltpeter.StartDirect
		default:
			err = errors.New("unknown option " + option)
		}
	}
	s.m.put(j, s.wall().Unix())
	s.sched.Changed(nil, true)
	return err
}

func (s *stage) turn(what, name string) error {
	s.m.change(func() ([]uint64, bool) {
		switch j := s.m.jobs[name]; what {
		case "drop":
			delete(s.m.jobs, name)
		default:
			j.paused = what == "pause"
			if what == "resume" {
				j.mark = max(j.mark, s.wall().Unix())
			}
		}
		return nil, true
	})
	return nil
}

func (s *stage) set(options []string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	set := &s.m.settings
	keys := map[string]*time.Duration{
		"lost": &set.LostAfter, "window": &set.StartWindow, "silence": &set.SilenceToPing, "ping": &set.PingTimeout, "retry": &set.ResolveRetry,
	}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		d, err := time.ParseDuration(value)
		if err != nil || keys[key] == nil {
			return fmt.Errorf("set %s: %w", option, err)
		}
		*keys[key] = d
	}
	return nil
}

func (s *stage) config(f []string) error {
	at := s.wall()
	if len(f) == 2 {
		d, err := time.ParseDuration(f[1])
		if err != nil {
			return err
		}
		at = at.Add(d)
	}
	s.wg.Go(func() {
		if err := s.sched.Apply(s.t.Context(), candidate{at: at}); err != nil {
			s.m.noteLocked("config: %v", err)
		}
	})
	return nil
}

func (s *stage) time(what string, f []string) error {
	var d time.Duration
	var err error
	if last := f[len(f)-1]; what != "clock" || f[0] == "apart" {
		if d, err = time.ParseDuration(last); err != nil {
			return err
		}
	}
	switch what {
	case "advance":
		time.Sleep(d)
	case "freeze":
		gate := make(chan struct{})
		s.m.mu.Lock()
		s.m.gate = gate
		s.m.mu.Unlock()
		time.Sleep(d)
		close(gate)
	case "jump":
		s.clockMu.Lock()
		defer s.clockMu.Unlock()
		s.step += d
	case "clock":
		s.clockMu.Lock()
		defer s.clockMu.Unlock()
		answers := map[string]error{"alone": nil, "agreed": nil, "apart": nil, "none": errors.New("2 of 3 nodes do not answer")}
		s.clock = func() (time.Duration, bool, error) { return d, f[0] == "alone", answers[f[0]] }
	}
	return nil
}

// word plays what wrappers and people say.
func (s *stage) word(f []string) error {
	num, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return err
	}
	if f[0] == "kill" {
		s.m.kill(num)
		return nil
	}
	for _, name := range f[2:] {
		switch f[0] {
		case "hello":
			s.sched.HeardLaunch(saltpeter.LaunchID(num), name)
		case "heard":
			s.hear(num, name)
		case "result":
			s.m.result(num, name)
		case "back":
			for _, ref := range s.m.back(num, name) {
				s.sched.Heard(ref)
			}
		default:
			state, ok := saltpeter.ParseTargetState(f[0])
			if !ok {
				return errors.New("unknown command")
			}
			moved := s.m.set(num, name, state)
			if len(moved) == 0 {
				return fmt.Errorf("no target %s of run %d can become %s", name, num, state)
			}
			for _, ref := range moved {
				s.sched.Heard(ref)
			}
		}
	}
	return nil
}

func (s *stage) hear(num uint64, name string) {
	view{s.m}.TargetsOf(num, 0, func(t saltpeter.Target) bool {
		if t.Machine == name {
			s.sched.Heard(t.Ref)
		}
		return true
	})
}

// names gives n machine names.
func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("m%05d", i)
	}
	return slices.Clip(all)
}
