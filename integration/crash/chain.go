package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
	"golang.org/x/sync/errgroup"
)

// Case is one point and what is done to the process there.
type Case struct {
	Point  string
	Action string // kill or stop
	Nodes  int
}

func (c Case) String() string { return fmt.Sprintf("%s:%s:%d", c.Point, c.Action, c.Nodes) }

// Result is what came of a case.
type Result struct {
	Case
	Hits       int
	Violations []string
	Dir        string // what was kept; empty if nothing was
	Took       time.Duration
}

const (
	pause    = 4 * time.Second  // how long a stopped process stays so
	hitLimit = 90 * time.Second // in which a point must be passed
)

// timings shorten what would make a case long. The start window stays well above a stop, and the silence after which a
// command is lost above the 20 s in which a granted one may start.
const timings = `  start_window: 12
  silence_to_ping: 2
  ping_timeout: 3
  lost_after: 25
`

// chain runs cases one after the other in one cluster, and judges at the end.
type chain struct {
	c     *rig.Cluster
	h     *rig.History
	op    *rig.Operator
	fill  *rig.Operator // who has output written
	rand  *rand.Rand
	log   func(format string, args ...any)
	began []time.Time  // of each case
	early rig.Evidence // of runs that retention may have dropped since

	epoch    *rig.Epoch     // that is on its way, or whose maintenance is on
	entering errgroup.Group // who asks for it, or for a removal
	removed  *rig.Node      // that is out, and has to come back
	lacking  int            // bytes of output that are said to be lacking, at the end
}

// runChain runs cases of one size of cluster in a new directory, which is kept if something is found.
func runChain(ctx context.Context, dir string, bin rig.Binaries, seed uint64, cases []Case, log func(format string, args ...any)) []Result {
	results := make([]Result, len(cases))
	for i := range cases {
		results[i].Case = cases[i]
	}
	r := rand.New(rand.NewPCG(seed, 7))
	kind := cases[0].provocation()
	jobs := workload(r)
	switch kind {
	case byClock:
		jobs = clockWorkload()
	case byRestore, byRecovery:
		jobs = epochWorkload()
	case byLoss:
		jobs = lossWorkload()
	}
	c, err := pointedCluster(dir, bin, cases[0].Nodes, jobs, timings)
	if err == nil {
		err = secondKey(c)
	}
	if err != nil {
		return failAll(results, dir, err, results)
	}
	c.Env = append(c.Env, "SP_SNAPSHOT_LOGS=120", "SP_SEGMENT_BYTES=131072", "SP_CLOCK="+clockFile(c))
	if kind == byLoss {
		c.Env = append(c.Env, "SP_FED=1")
	}
	ch := &chain{c: c, h: rig.NewHistory(), rand: r, log: log}
	ch.op = &rig.Operator{C: c, H: ch.h, P: "k", NoMaintenance: kind.alone()}
	ch.fill = &rig.Operator{C: c, H: ch.h, P: "f"}
	found, err := ch.run(ctx, results)
	c.Kill()
	if err != nil {
		return failAll(results[max(0, len(ch.began)-1):], dir, fmt.Errorf("%w%s", err, c.LastWords()), results)
	}
	ch.charge(results, found)
	for i := range results {
		if len(results[i].Violations) > 0 || results[i].Hits == 0 {
			for k := range results {
				results[k].Dir = dir
			}
			return results
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		log("remove %s: %v", dir, err)
	}
	return results
}

// failAll marks a chain that could not be brought to its end: the case at which it broke has the reason, and the others
// were not judged.
func failAll(broken []Result, dir string, err error, all []Result) []Result {
	broken[0].Violations = append(broken[0].Violations, "the chain broke here: "+err.Error())
	for i := range all {
		if len(all[i].Violations) == 0 {
			all[i].Violations = []string{"not judged: the chain broke at " + broken[0].Case.String()}
		}
		all[i].Dir = dir
	}
	return all
}

func (ch *chain) run(ctx context.Context, results []Result) ([]rig.Violation, error) {
	start := ch.c.StartAll
	if results[0].provocation().several() {
		start = ch.form
	}
	if err := start(ctx); err != nil {
		return nil, err
	}
	ch.h.Seen = time.Now()
	side, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return ch.op.Use(side) })
	awake, sleep := context.WithCancel(ctx)
	defer sleep()
	var waker errgroup.Group
	waker.Go(func() error { wakeWrappers(awake, ch.c); return nil })
	var failed error
	for i := range results {
		ch.began = append(ch.began, time.Now())
		hits, err := ch.hurt(ctx, results[i].Case)
		results[i].Hits, results[i].Took = hits, time.Since(ch.began[i])
		if err != nil {
			failed = fmt.Errorf("%s: %w", results[i].Case, err)
			break
		}
		ch.log("%-36s hits %d, %.1f s", results[i].Case, hits, results[i].Took.Seconds())
	}
	stop()
	err := errors.Join(failed, g.Wait(), ch.entering.Wait())
	if err == nil {
		var found []rig.Violation
		found, err = ch.finish(ctx)
		if err == nil {
			sleep()
			return found, waker.Wait()
		}
	}
	sleep()
	return nil, errors.Join(err, waker.Wait())
}

// finish lets nothing start any more, waits for rest, and judges.
func (ch *chain) finish(ctx context.Context) ([]rig.Violation, error) {
	time.Sleep(time.Until(ch.h.AfterClocks())) // the record has times of a wrong clock until then
	if ch.h.Removed() {
		time.Sleep(housekeeping) // a record that came back is seen by now
	}
	end, err := ch.op.Finish(ctx, 90*time.Second)
	if err != nil {
		return nil, err
	}
	e, err := collect(ctx, ch.c, ch.h, end)
	if err != nil {
		return nil, err
	}
	e.Add(&ch.early)
	ch.lacking = e.Lacking()
	found := rig.Judge(e)
	ch.log("judged: %s; %d violations", e.Size(), len(found))
	for _, v := range found {
		ch.log("violation: %s", v.Say())
	}
	if err := ch.c.StopAll(); err != nil {
		found = append(found, rig.Violation{Promise: "end", At: time.Now(), Text: err.Error()})
	}
	return append(found, slices.DeleteFunc(ch.c.Complaints(), ch.expected)...), nil
}

// expected reports whether a node's complaint is of what was done to it: clocks that were turned, output that was taken.
func (ch *chain) expected(v rig.Violation) bool {
	turned, robbed := !ch.h.AfterClocks().IsZero(), ch.h.Robbed()
	return turned && (strings.Contains(v.Text, "nothing is claimed") || strings.Contains(v.Text, "marks lie in the future")) ||
		robbed && strings.Contains(v.Text, "segments that no member has are given up")
}

func (c Case) provocation() provocation {
	p, _ := findPoint(c.Point) // ParseCase and AllCases know it
	return p.provoke
}

// charge gives each violation to the case in whose time it falls.
func (ch *chain) charge(results []Result, found []rig.Violation) {
	for _, v := range found {
		i := len(results) - 1
		for i > 0 && v.At.Before(ch.began[i]) {
			i--
		}
		results[i].Violations = append(results[i].Violations, v.Say())
	}
}

// wakeWrappers wakes wrappers that stopped themselves, until ctx ends; then all at once.
func wakeWrappers(ctx context.Context, c *rig.Cluster) {
	asleep := make(map[int]time.Time)
	wake := func(pid int) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		asleep[pid] = time.Time{}
	}
	for {
		for _, h := range hits(wrapperLog(c)) {
			since, known := asleep[h.pid]
			switch {
			case h.action != "stop" || known && since.IsZero():
			case !known:
				asleep[h.pid] = time.Now()
			case time.Since(since) >= pause:
				wake(h.pid)
			}
		}
		select {
		case <-ctx.Done():
			for pid := range asleep {
				wake(pid)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
