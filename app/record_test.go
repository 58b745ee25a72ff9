package app

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

// backwards commits what is proposed together in the reverse order, as a cluster may.
type backwards struct {
	d *applied

	mu     sync.Mutex
	n      int // proposals so far
	flying int
	most   int // that flew together
}

func (p *backwards) Propose(_ context.Context, _ cluster.Priority, b []byte) (cluster.Result, error) {
	p.mu.Lock()
	p.n++
	p.flying++
	p.most = max(p.most, p.flying)
	wait := time.Duration(1000-p.n) * time.Millisecond
	p.mu.Unlock()
	time.Sleep(wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying--
	_, c, err := fsm.Decode(b)
	if err != nil {
		return cluster.Result{}, err
	}
	return cluster.Result{Value: p.d.do(c)}, nil
}

// plan gives claims of ticks of jobs as the planner does: in the order of the ticks.
func (d *applied) plan(first int64, ticks int, jobs ...string) []saltpeter.Claim {
	d.t.Helper()
	var claims []saltpeter.Claim
	for i := range int64(ticks) {
		for _, name := range jobs {
			st, ok := d.a.machine.View().Job(name)
			if !ok {
				d.t.Fatalf("no job %s", name)
			}
			claims = append(claims, saltpeter.Claim{Job: name, Digest: st.Digest, Tick: first + i, Cause: "tick"})
		}
	}
	return claims
}

// TestClaimsOfOneJobStayInOrder: a plan may hold many ticks of one job in several commands. A later tick's claim moves the
// job's mark, so an earlier one that was committed after it would be lost.
func TestClaimsOfOneJobStayInOrder(t *testing.T) {
	long := strings.Repeat("x", 120)
	wide := make([]*saltpeter.Job, 3000)
	names := make([]string, len(wide))
	for i := range wide {
		names[i] = fmt.Sprintf("%s%05d", long, i)
		wide[i] = testJob(names[i])
		wide[i].AllowOverlap = true
	}
	for _, test := range []struct {
		name        string
		jobs, ticks int
		second      bool // the first job has one more
		together    bool
	}{
		{"one tick of many jobs", len(wide), 1, false, true},
		{"many ticks of one job", 1, 3000, false, false},
		{"many ticks of many jobs", 100, 30, false, false},
		{"a second tick of one job", len(wide), 1, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newApplied(t)
				p := &backwards{d: d}
				d.a.proposer, d.a.wall = p, time.Now
				d.force(wide...)
				first := time.Now().Unix() + 1
				time.Sleep(time.Hour)
				claims := d.plan(first, test.ticks, names[:test.jobs]...)
				if test.second {
					claims = append(claims, d.plan(first+1, 1, names[0])...)
				}
				results, err := d.a.recordOf(1).Claim(t.Context(), claims)
				if err != nil || len(results) != len(claims) {
					t.Fatalf("%d results of %d, %v", len(results), len(claims), err)
				}
				for i, r := range results {
					if run, ok := d.a.machine.View().Run(r.Run); r.Outcome != saltpeter.ClaimRun || !ok || run.Job != claims[i].Job || run.Tick != claims[i].Tick {
						t.Fatalf("claim %d of %d: %+v is %+v", i, len(claims), r, run)
					}
				}
				if p.n < 2 || (p.most > 1) != test.together {
					t.Errorf("%d commands, at most %d together", p.n, p.most)
				}
			})
		})
	}
}
