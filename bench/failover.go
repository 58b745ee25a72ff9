package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	failoverTrials = 20 // of each kind
	probeSpan      = 2500 * time.Millisecond
	probeBefore    = 500 * time.Millisecond
	startLimit     = 30 * time.Second
	wholeLimit     = 2 * time.Minute
)

// The kinds of trials.
const (
	stopped = "stopped" // longest time between two commits of the other nodes around a leader's end in good order
	killed  = "killed"  // from the leader's kill -9 to the first start of a run that was asked for since
)

// failover measures the ends of leaders of three nodes, each trial with the cluster whole. A job is due in every second: each of
// its ticks must be there once.
func failover(ctx context.Context, b *bench) error {
	want := failoverTrials
	if b.count > 0 {
		want = b.count
	}
	done, err := readTrials(b.trials)
	if err != nil {
		return err
	}
	files := settings(2) + "tick: {schedule: '* * * * * *', targets: m-0, command: 'true', " + overlapping + "}\n" +
		"probe: {schedule: '0 0 1 1 *', targets: m-1, command: 'true', " + overlapping + "}\n"
	c, err := b.cluster(ctx, "failover", clusterNodes, files, 2, rig.NodeSpec{Publish: rig.PublishAnswer})
	if err != nil {
		return err
	}
	began, lost := time.Now(), 0
	for trial := 1; len(done[stopped]) < want || len(done[killed]) < want; trial++ {
		kind, measure := killed, c.killTrial
		if len(done[stopped]) <= len(done[killed]) {
			kind, measure = stopped, c.stopTrial
		}
		took, missing, err := c.trial(ctx, trial, measure)
		if err != nil {
			return fmt.Errorf("trial %d (%s): %w", trial, kind, err)
		}
		lost += missing
		done[kind] = append(done[kind], took)
		if err := addTrial(b.trials, kind, took); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s %s, %d of %d and %d of %d\n", kind, ms(took), len(done[stopped]), want, len(done[killed]), want)
	}
	b.failoverRows(done, lost, time.Since(began))
	return nil
}

func (b *bench) failoverRows(done map[string][]time.Duration, lost int, took time.Duration) {
	budgets := map[string]map[int]time.Duration{stopped: {100: 100 * time.Millisecond}, killed: {50: 1200 * time.Millisecond, 99: 1800 * time.Millisecond}}
	for _, kind := range []string{stopped, killed} {
		for _, p := range []int{50, 90, 99, 100} {
			d := percentile(done[kind], p)
			r := row{what: fmt.Sprintf("%s, p%d of %d", kind, p, len(done[kind])), figure: ms(d)}
			if limit, ok := budgets[kind][p]; ok {
				r.budget, r.ok = "≤ "+ms(limit), d <= limit
			}
			b.table.add(r)
		}
	}
	b.table.add(row{what: "ticks lost or doubled in " + took.Round(time.Second).String(), figure: strconv.Itoa(lost), budget: "0", ok: lost == 0})
}

// trial does one measurement on the leader, has it started again, and counts the ticks of the time that are not there once.
func (c *several) trial(ctx context.Context, number int, measure func(ctx context.Context, number int, lead *aNode, rest []*aNode) (time.Duration, error)) (time.Duration, int, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return 0, 0, err
	}
	rest := slices.DeleteFunc(slices.Clone(c.nodes), func(n *aNode) bool { return n == lead })
	from := time.Now()
	took, err := measure(ctx, number, lead, rest)
	if err != nil {
		return 0, 0, err
	}
	if err := lead.start(ctx); err != nil { // the process lives as long as ctx
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, wholeLimit)
	defer cancel()
	if err := c.whole(ctx, rest[0]); err != nil {
		return 0, 0, err
	}
	missing, err := ticksMissing(ctx, rest[0], from, time.Now().Add(-2*time.Second))
	return took, missing, err
}

// stopTrial ends the leader in good order while the others have entries committed.
func (c *several) stopTrial(ctx context.Context, _ int, lead *aNode, rest []*aNode) (time.Duration, error) {
	all := make([][]int64, len(rest))
	errs := make([]error, len(rest)+1)
	var group sync.WaitGroup
	for i, n := range rest {
		group.Go(func() { errs[i] = n.Ask("commits", probeSpan, &all[i]) })
	}
	errs[len(rest)] = pause(ctx, probeBefore)
	if err := lead.stop(); err != nil {
		errs = append(errs, err)
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	at := slices.Concat(all...)
	slices.Sort(at)
	var longest int64
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i]-at[i-1])
	}
	if len(at) < 20 {
		return 0, fmt.Errorf("only %d commits", len(at))
	}
	return time.Duration(longest), nil
}

// killTrial kills the leader and asks the others for a run.
func (c *several) killTrial(ctx context.Context, number int, lead *aNode, rest []*aNode) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	kill := time.Now()
	if err := errors.Join(lead.Kill(), lead.log.Close()); err != nil {
		return 0, err
	}
	first := make(chan time.Duration, len(rest))
	var group sync.WaitGroup
	for i, n := range rest {
		group.Go(func() {
			if at, err := firstStart(ctx, n, fmt.Sprintf("%d-%d-%d", kill.UnixNano(), number, i)); err == nil {
				first <- at.Sub(kill)
				cancel() // the others' would be later ones
			}
		})
	}
	group.Wait()
	select {
	case took := <-first:
		return took, nil
	default:
		return 0, errors.New("no run was started")
	}
}

// firstStart starts a run by hand and gives the time when its command was started.
func firstStart(ctx context.Context, n *aNode, key string) (time.Time, error) {
	api, err := n.client()
	if err != nil {
		return time.Time{}, err
	}
	defer api.Close()
	for {
		run, err := api.Start(ctx, client.Start{Job: "probe", Key: key})
		for err == nil && run.Value.Started == 0 {
			if err = pause(ctx, time.Millisecond); err == nil {
				run, err = api.Run(ctx, run.Value.ID)
			}
		}
		if err == nil {
			return run.Value.Started.Time(), nil
		}
		if pauseErr := pause(ctx, 10*time.Millisecond); pauseErr != nil {
			return time.Time{}, err
		}
	}
}

// whole waits until all nodes are there and vote.
func (c *several) whole(ctx context.Context, by *aNode) error {
	api, err := by.client()
	if err != nil {
		return err
	}
	defer api.Close()
	for {
		if got, err := api.Cluster(ctx); err == nil && got.Value.Healthy && got.Value.Voters == len(c.nodes) {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return by.explain(fmt.Errorf("wait for all nodes: %w", err))
		}
	}
}

// ticksMissing counts the seconds that have not exactly one run.
func ticksMissing(ctx context.Context, n *aNode, from, to time.Time) (missing int, err error) {
	api, err := n.client()
	if err != nil {
		return 0, err
	}
	defer api.Close()
	got, err := api.Runs(ctx, url.Values{"job": {"tick"}}, 200)
	if err != nil {
		return 0, err
	}
	count := map[int64]int{}
	for i := range got.Items {
		count[got.Items[i].Scheduled.Time().Unix()]++
	}
	for at := from.Unix() + 1; at < to.Unix(); at++ {
		if count[at] != 1 {
			missing++
		}
	}
	return missing, nil
}

// readTrials reads what earlier calls have measured; no file is none.
func readTrials(path string) (map[string][]time.Duration, error) {
	done := map[string][]time.Duration{}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		kind, ns, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil || kind != stopped && kind != killed {
			return nil, fmt.Errorf("%s: %q is no trial (stopped or killed, then nanoseconds)", path, lines.Text())
		}
		done[kind] = append(done[kind], time.Duration(n))
	}
	return done, lines.Err()
}

func addTrial(path, kind string, took time.Duration) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %d\n", kind, took.Nanoseconds())
	return errors.Join(err, f.Close())
}
