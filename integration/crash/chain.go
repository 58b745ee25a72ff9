package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

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
	hitLimit = 45 * time.Second // in which a point must be passed
	reprod   = 6 * time.Second  // after which it is provoked again
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
	c     *Cluster
	h     *history
	op    *operator
	rand  *rand.Rand
	log   func(format string, args ...any)
	began []time.Time // of each case
}

// runChain runs cases of one size of cluster in a new directory, which is kept if something is found.
func runChain(ctx context.Context, dir string, bin Binaries, seed uint64, cases []Case, log func(format string, args ...any)) []Result {
	results := make([]Result, len(cases))
	for i := range cases {
		results[i].Case = cases[i]
	}
	r := rand.New(rand.NewPCG(seed, 7))
	c, err := newCluster(dir, bin, cases[0].Nodes, workload(r), timings)
	if err != nil {
		return failAll(results, dir, err, results)
	}
	c.env = []string{"SP_SNAPSHOT_LOGS=120"}
	ch := &chain{c: c, h: newHistory(), rand: r, log: log}
	ch.op = &operator{c: c, h: ch.h, p: "k"}
	found, err := ch.run(ctx, results)
	c.kill()
	if err != nil {
		return failAll(results[max(0, len(ch.began)-1):], dir, fmt.Errorf("%w%s", err, c.lastWords()), results)
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

func (ch *chain) run(ctx context.Context, results []Result) ([]violation, error) {
	if err := ch.c.startAll(ctx); err != nil {
		return nil, err
	}
	ch.h.seen = time.Now()
	side, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return ch.op.use(side) })
	awake, sleep := context.WithCancel(ctx)
	defer sleep()
	var waker errgroup.Group
	waker.Go(func() error { ch.c.wakeWrappers(awake); return nil })
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
	err := errors.Join(failed, g.Wait())
	if err == nil {
		var found []violation
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
func (ch *chain) finish(ctx context.Context) ([]violation, error) {
	end, err := ch.op.maintain(ctx, "all", "")
	if err != nil {
		return nil, err
	}
	if err := ch.killLong(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(ch.c.rest(ctx, 90*time.Second), ch.c.allUp()); err != nil {
		return nil, err
	}
	// A command whose wrapper was killed is at most eight seconds long.
	if err := waitFor(ctx, 20*time.Second, "commands and wrappers to end", ch.c.onlyNodes); err != nil {
		return nil, err
	}
	e, err := ch.c.collect(ctx, ch.h, end)
	if err != nil {
		return nil, err
	}
	found := judge(e)
	ch.log("judged: %s; %d violations", e.size(), len(found))
	for _, v := range found {
		ch.log("violation: %s", v.Say())
	}
	if err := ch.c.stopAll(); err != nil {
		found = append(found, violation{"end", time.Now(), err.Error()})
	}
	return append(found, ch.c.complaints()...), nil
}

// killLong kills what would take minutes to end: a long command that the operator had no time to kill.
func (ch *chain) killLong(ctx context.Context) error {
	runs, err := list[run](ctx, ch.c, "/jobs/"+jobLong+"/runs")
	for _, r := range runs {
		if r.State == "claimed" || r.State == "running" {
			err = errors.Join(err, ch.op.kill(ctx, r.ID))
		}
	}
	return err
}

// onlyNodes says what else runs.
func (c *Cluster) onlyNodes() error {
	nodes := make(map[int]bool)
	for _, n := range c.nodes {
		if n.alive() {
			nodes[n.pid()] = true
			nodes[n.proc.Process.Pid] = true
		}
	}
	for _, pid := range c.leftovers() {
		if !nodes[pid] {
			return fmt.Errorf("process %d still runs", pid)
		}
	}
	return nil
}

// complaints finds what a node's log must not have.
func (c *Cluster) complaints() []violation {
	var out []violation
	for _, n := range c.nodes {
		b, err := os.ReadFile(n.logFile())
		if err != nil {
			continue
		}
		for text := range strings.Lines(string(b)) {
			if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "error:") || strings.Contains(text, "DATA RACE") || strings.Contains(text, "level=ERROR") {
				out = append(out, violation{"log", time.Now(), n.name + ": " + strings.TrimSpace(text)})
			}
		}
	}
	return out
}

// lastWords gives the end of the nodes' logs.
func (c *Cluster) lastWords() string {
	var b strings.Builder
	for _, n := range c.nodes {
		text, err := os.ReadFile(n.logFile())
		if err != nil {
			continue
		}
		from := max(0, len(text)-600)
		if i := bytes.LastIndex(text, []byte("\npanic:")); i >= 0 {
			from = i
		}
		fmt.Fprintf(&b, "\n%s: …%s", n.name, text[from:min(len(text), from+2000)])
	}
	return b.String()
}

// charge gives each violation to the case in whose time it falls.
func (ch *chain) charge(results []Result, found []violation) {
	for _, v := range found {
		i := len(results) - 1
		for i > 0 && v.at.Before(ch.began[i]) {
			i--
		}
		results[i].Violations = append(results[i].Violations, v.Say())
	}
}

// wakeWrappers wakes wrappers that stopped themselves, until ctx ends; then all at once.
func (c *Cluster) wakeWrappers(ctx context.Context) {
	asleep := make(map[int]time.Time)
	wake := func(pid int) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		asleep[pid] = time.Time{}
	}
	for {
		for _, h := range hits(c.wrapperLog()) {
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
