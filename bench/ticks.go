package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	ticksRounds = 3
	ticksEvery  = 15 * time.Second // between rounds: by then the runs of the last one have ended
)

// ticks measures when claims are committed whose ticks all lie in one second. Nothing is started: what a run costs after its
// claim is measured by "runs".
func ticks(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		jobs   int
		budget time.Duration
	}{{1000, 100 * time.Millisecond}, {10_000, 500 * time.Millisecond}} {
		claims, err := b.dueTogether(ctx, c.jobs)
		if err != nil {
			return err
		}
		bare, err := b.bareCommits(fmt.Sprintf("bare-%d", c.jobs), claims.Commands)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%d ticks in a second", c.jobs)
		if want := c.jobs * ticksRounds; claims.Runs != want {
			return fmt.Errorf("%d ticks were claimed, %d skipped, %d else, of %d", claims.Runs, claims.Skips, claims.Others, want)
		}
		early, late := percentile(claims.Early, 0), claims.Late
		b.table.add(row{what: what + ", earliest proposal", figure: ms(early), budget: "≥ 0", ok: early >= 0})
		b.table.add(row{what: "  committed, min / p50", figure: ms(percentile(late, 0)) + " / " + ms(percentile(late, 50))})
		p99 := percentile(late, 99)
		b.table.add(row{what: "  committed, p99", figure: ms(p99), limit: ms(bare) + " (bare raft, same bytes)", ratio: float64(p99) / float64(bare),
			budget: "< " + ms(c.budget), ok: p99 < c.budget})
		if b.profile != "" {
			for _, c := range claims.Commands {
				b.table.add(row{what: "    a command", figure: ms(c.Began) + " – " + ms(c.Done), limit: kib(float64(c.Size))})
			}
		}
		b.table.add(row{what: "  committed, max", figure: ms(percentile(late, 100))})
	}
	return nil
}

// dueTogether runs a node on which so many jobs are due together in some rounds.
func (b *bench) dueTogether(ctx context.Context, jobs int) (claims rig.Claims, err error) {
	every := int(ticksEvery / time.Second)
	var due []string
	// The files are in force well before the first of these seconds.
	begin := time.Now().Add(10*time.Second + time.Duration(jobs)*time.Millisecond).Truncate(time.Second)
	for i := range ticksRounds {
		due = append(due, begin.Add(time.Duration(i*every)*time.Second).UTC().Format("5 4 15 2 1"))
	}
	n, err := b.node(ctx, fmt.Sprintf("ticks-%d", jobs), settings(1, "silence_to_ping: 2s", "ping_timeout: 1s")+tickJobs(jobs, due), jobs, rig.PublishNobody, 0)
	if err != nil {
		return claims, err
	}
	if time.Now().After(begin.Add(-time.Second)) {
		return claims, fmt.Errorf("%d jobs were in force too late", jobs)
	}
	profiled := n.profiled(fmt.Sprintf("ticks-%d", jobs))
	last := begin.Add(ticksEvery*(ticksRounds-1) + 5*time.Second)
	if err := pause(ctx, time.Until(last)); err != nil {
		return claims, err
	}
	if err := n.Ask("claims", nil, &claims); err != nil {
		return claims, n.explain(err)
	}
	if err := profiled(); err != nil {
		return claims, err
	}
	return claims, n.stop()
}

// tickJobs are jobs that are due at the given seconds, "sec min hour dom mon" each.
func tickJobs(jobs int, due []string) string {
	secs, mins, hours := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, d := range due {
		f := strings.Fields(d)
		secs[f[0]], mins[f[1]], hours[f[2]] = true, true, true
	}
	// Where rounds cross a minute the fields' product has more seconds: they lie half a minute before the first round, when
	// the node is not there yet, or a minute after it, when it is gone.
	var out strings.Builder
	for i := range jobs {
		fmt.Fprintf(&out, "job-%05d: {schedule: '%s %s %s * * *', targets: '*', command: 'true', %s}\n", i,
			join(secs), join(mins), join(hours), overlapping)
	}
	return out.String()
}

func join(set map[string]bool) string {
	var list []string
	for k := range set {
		list = append(list, k)
	}
	return strings.Join(list, ",")
}

// bareCommits gives the time that bare raft takes to commit entries of the same sizes, one after the other, as the median of
// the rounds.
func (b *bench) bareCommits(name string, commands []rig.Command) (time.Duration, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	r, err := rig.OpenRaft(rig.BareSpec{Dir: dir})
	if err != nil {
		return 0, err
	}
	per := max(len(commands)/ticksRounds, 1)
	var rounds []time.Duration
	for from := 0; from < len(commands); from += per {
		began := time.Now()
		for _, c := range commands[from:min(from+per, len(commands))] {
			entry := make([]byte, c.Size)
			_, _ = rand.Read(entry) // never fails
			if err := r.Commit(entry); err != nil {
				return 0, err
			}
		}
		rounds = append(rounds, time.Since(began))
	}
	return percentile(rounds, 50), r.Close()
}
