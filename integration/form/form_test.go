package form

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
)

func TestThreeNodes(t *testing.T) {
	r := newRig(t)
	all := []string{r.addr(1), r.addr(2), r.addr(3)}
	for i := 1; i <= 3; i++ {
		r.start(i, all...)
	}
	for i := 1; i <= 3; i++ {
		r.until("the node waits", func(ctx context.Context) (bool, error) {
			got, err := r.nodes[i].Status(ctx)
			return err == nil && strings.Contains(got.Value.Forming, "not part of a cluster itself") && got.Value.Cluster.Leader == "", err
		})
	}
	begun, err := r.nodes[1].InitCluster(t.Context())
	if err != nil || begun.Value.ID == "" || begun.Value.Address != r.addr(1) {
		t.Fatalf("%+v, %v", begun.Value, err)
	}
	begin := time.Now()
	leader := r.healthy(2)
	t.Logf("three voters after init: %s", time.Since(begin).Round(time.Millisecond))
	if _, err := r.nodes[3].InitCluster(t.Context()); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Errorf("init on a member: %v", err)
	}
	r.firstTick()
	from := time.Now()
	run := r.writeAndRead(leader)

	r.stop(leader, syscall.SIGKILL)
	killed := time.Now()
	r.until("a run after the leader's death", func(ctx context.Context) (bool, error) {
		_, err := r.nodes[leader%3+1].Start(ctx, client.Start{Job: "tick", Key: "after"})
		return err == nil, err
	})
	t.Logf("first answer to a start after the leader's death: %s", time.Since(killed).Round(time.Millisecond))
	r.start(leader, all...)
	r.healthy(leader)

	r.replace(leader, r.addr(leader%3+1))
	r.transfer()
	r.output(run)
	r.ticks(from, time.Now().Add(-2*time.Second))
	r.logs(leader)
}

// firstTick waits for the first run of the job that is due every second.
func (r *rig) firstTick() {
	r.until("the first tick's run", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[2].Runs(ctx, url.Values{"job": {"tick"}}, 5)
		return len(got.Items) > 1, err
	})
}

// writeAndRead starts a run through a follower and reads it on the others at once.
func (r *rig) writeAndRead(leader int) (run string) {
	r.t.Helper()
	follower, other := leader%3+1, (leader+1)%3+1
	started, err := r.nodes[follower].Start(r.t.Context(), client.Start{Job: "long", Key: "long"})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, i := range []int{other, leader} {
		if got, err := r.nodes[i].Run(r.t.Context(), started.Value.ID); err != nil {
			r.t.Errorf("n%d: %+v, %v", i, got.Value, err)
		}
	}
	return started.Value.ID
}

// replace removes a node, sees it stop its work, and lets a new one join in its place.
func (r *rig) replace(i int, join string) {
	r.t.Helper()
	name := fmt.Sprintf("n%d", i)
	other := r.nodes[i%3+1]
	if _, err := other.RemoveMember(r.t.Context(), name, false); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		r.t.Errorf("removing one of three without force: %v", err)
	}
	if got, err := other.RemoveMember(r.t.Context(), name, true); err != nil || got.Value.Voters != 2 {
		r.t.Fatalf("%+v, %v", got.Value, err)
	}
	r.until("the removed node says so", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[i].Status(ctx)
		return strings.Contains(got.Value.Forming, "was removed from its cluster"), err
	})
	r.stop(i, syscall.SIGTERM)
	for _, dir := range []string{r.data(i), r.logDir(i)} {
		if err := os.RemoveAll(dir); err != nil {
			r.t.Fatal(err)
		}
	}
	r.start(i, join)
	r.healthy(i)
}

// transfer hands leadership to each node in turn.
func (r *rig) transfer() {
	r.t.Helper()
	for _, name := range []string{"n1", "n2", "n3"} {
		got, err := r.nodes[2].TransferLeader(r.t.Context(), name)
		if err != nil || got.Value.To != name {
			r.t.Fatalf("to %s: %+v, %v", name, got.Value, err)
		}
	}
}

// output holds the output of the run that lived through all this to be whole, on every node.
func (r *rig) output(run string) {
	r.t.Helper()
	r.until("the end of the long run", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[1].Run(ctx, run)
		return got.Value.Final(), err
	})
	for i, n := range r.nodes {
		if got, err := n.Run(r.t.Context(), run); err != nil || got.Value.State != "ok" {
			r.t.Errorf("n%d: %s, %v", i, got.Value.State, err)
		}
		for _, machine := range []string{"m2", "m3"} {
			var want, got bytes.Buffer
			for k := 1; k <= 80; k++ {
				fmt.Fprintf(&want, "line %d of %s\n", k, machine)
			}
			if err := n.Output(r.t.Context(), run, machine, 0, false, &got); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
				r.t.Errorf("output of %s on n%d: %d bytes of %d, %v", machine, i, got.Len(), want.Len(), err)
			}
		}
	}
}

// ticks holds every second to exactly one run or one recorded skip.
func (r *rig) ticks(from, to time.Time) {
	r.t.Helper()
	count := map[int64]int{}
	runs, err := r.nodes[2].Runs(r.t.Context(), url.Values{"job": {"tick"}}, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range runs.Items {
		if run := &runs.Items[i]; run.Scheduled != 0 {
			count[run.Scheduled.Time().Unix()]++
		}
	}
	skips, err := r.nodes[2].Skips(r.t.Context(), "tick", 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	skipped := 0
	for _, s := range skips.Items {
		if s.Reason != "overlap" {
			r.t.Errorf("skipped: %+v", s)
		}
		for at := s.First.Time().Unix(); at <= s.Last.Time().Unix(); at++ {
			count[at]++
			skipped++
		}
	}
	seconds := 0
	for at := from.Unix() + 1; at < to.Unix(); at++ {
		seconds++
		if count[at] != 1 {
			r.t.Errorf("second %s has %d runs and skips", time.Unix(at, 0).UTC().Format(time.TimeOnly), count[at])
		}
	}
	r.t.Logf("%d seconds, %d skipped for overlap", seconds, skipped)
}

// logs holds every node's log file to one record per run, those of the node that began anew included.
func (r *rig) logs(anew int) {
	r.t.Helper()
	runs, err := r.nodes[1].Runs(r.t.Context(), url.Values{"job": {"tick"}, "state": {"ok"}}, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 1; i <= 3; i++ {
		r.until(fmt.Sprintf("the log of n%d (new: n%d)", i, anew), func(context.Context) (bool, error) {
			text, err := os.ReadFile(r.logDir(i) + "/tick.log")
			if err != nil {
				return false, err
			}
			for k := range runs.Items {
				id := runs.Items[k].ID
				for _, record := range []string{"###### Starting " + id + " at ", "###### Finished " + id + " at ", "\ntick " + id + "\n"} {
					if n := strings.Count("\n"+string(text), record); n != 1 {
						return false, fmt.Errorf("%d times %q", n, record)
					}
				}
			}
			return true, nil
		})
	}
}

func TestAloneBecomesTheFirst(t *testing.T) {
	r := newRig(t)
	r.start(1)
	var before string
	r.until("a run while alone", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[1].Runs(ctx, url.Values{"job": {"tick"}, "state": {"ok"}}, 5)
		if len(got.Items) > 0 {
			before = got.Items[0].ID
		}
		return before != "", err
	})
	if _, err := r.nodes[1].InitCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.start(2, r.addr(1))
	r.start(3, r.addr(2)) // which may not be a member itself yet
	r.healthy(3)
	if got, err := r.nodes[3].Run(t.Context(), before); err != nil || got.Value.State != "ok" {
		t.Errorf("the run from before, on the third node: %+v, %v", got.Value, err)
	}
}
