package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// alone starts one node whose log can be made to hang or fail.
func alone(t *testing.T) (*rig, *rigNode, *faultyLog) {
	t.Helper()
	logs := map[string]*faultyLog{}
	r := newRig(t, "a")
	r.prepare = faulty(logs)
	r.startAll()
	r.leader()
	return r, r.nodes["a"], logs["a"]
}

func TestManyCommandsShareFewEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		defer r.stopAll()
		release := hang(log)
		var group sync.WaitGroup
		for i := range 3000 {
			group.Go(func() {
				if _, err := n.Propose(t.Context(), Normal, []byte(line(i))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		release()
		group.Wait()
		entries := n.fsm.entries
		if total(entries) != 3000 || len(entries) > 8 || slices.Max(entries) > maxBatch {
			t.Fatalf("commands per entry = %v, want 3000 in a few entries of at most %d", entries, maxBatch)
		}
	})
}

func total(list []int) int {
	n := 0
	for _, v := range list {
		n += v
	}
	return n
}

func TestOrderIsThatOfTheCallsAndUrgentGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		defer r.stopAll()
		release := hang(log)
		var group sync.WaitGroup
		propose := func(prio Priority, cmd string) {
			group.Go(func() {
				if _, err := n.Propose(t.Context(), prio, []byte(cmd)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		// These two are on their way to the disk when the others come.
		propose(Low, "first")
		time.Sleep(5 * time.Millisecond)
		propose(Low, "second")
		time.Sleep(5 * time.Millisecond)
		for i := range 10 {
			propose(Low, fmt.Sprintf("low %d", i))
			propose(High, fmt.Sprintf("high %d", i))
			propose(Normal, fmt.Sprintf("normal %d", i))
		}
		release()
		group.Wait()
		want := []string{"first", "second"}
		for _, prio := range []string{"high", "normal", "low"} {
			for i := range 10 {
				want = append(want, fmt.Sprintf("%s %d", prio, i))
			}
		}
		if got := n.fsm.lines(); !slices.Equal(got, want) {
			t.Fatalf("order:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestProposeAllIsOneEntry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, _ := alone(t)
		defer r.stopAll()
		results, err := n.ProposeAll(t.Context(), Normal, [][]byte{[]byte("x"), []byte("y"), []byte("z")})
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range results {
			if got.Value != i+1 || got.Index != results[0].Index {
				t.Errorf("result %d = %+v", i, got)
			}
		}
		if !slices.Equal(n.fsm.entries, []int{3}) {
			t.Errorf("commands per entry = %v", n.fsm.entries)
		}
	})
}

func TestSizesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, _ := alone(t)
		defer r.stopAll()
		if _, err := n.Propose(t.Context(), Normal, make([]byte, MaxCommand)); err != nil {
			t.Errorf("the largest command: %v", err)
		}
		tooLarge := map[string][][]byte{
			"one":         {make([]byte, maxEntry)},
			"together":    {make([]byte, MaxCommand/2), make([]byte, MaxCommand/2+100)},
			"by number":   make([][]byte, maxBatch+1),
			"by overhead": slices.Repeat([][]byte{make([]byte, 255)}, maxBatch),
		}
		for name, cmds := range tooLarge {
			if _, err := n.ProposeAll(t.Context(), Normal, cmds); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v, want ErrTooLarge", name, err)
			}
		}
		if _, err := n.Propose(t.Context(), priorities, nil); err == nil {
			t.Error("an unknown priority was taken")
		}
	})
}

// What waits is bounded, for each priority by itself: output that can't be written must not keep a start claim out.
func TestFullQueueMakesItsOwnPriorityWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		defer r.stopAll()
		release := hang(log)
		var group sync.WaitGroup
		fed := 0
		for range 64 {
			group.Go(func() {
				if _, err := n.Propose(t.Context(), Low, make([]byte, MaxCommand)); err != nil {
					t.Error(err)
				}
			})
			fed++
		}
		synctest.Wait()
		n.proposer.mu.Lock()
		queued := n.proposer.bytes
		n.proposer.mu.Unlock()
		if queued > maxQueued {
			t.Errorf("%d bytes wait, allowed are %d", queued, maxQueued)
		}
		if _, err := n.Propose(within(time.Second), Low, []byte("no room")); errors.Is(err, ErrUnknown) || err == nil {
			t.Errorf("low priority: %v, want a deadline while waiting for room", err)
		}
		group.Go(func() {
			if _, err := n.Propose(t.Context(), High, []byte("urgent")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		release()
		group.Wait()
		// Two entries were in Raft's hands; the urgent command goes with or before the third.
		at := slices.Index(n.fsm.lines(), "urgent")
		if at > 3 {
			t.Errorf("the urgent command came as number %d of %d", at, fed)
		}
	})
}

func TestProposalsEndWithTheNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		release := hang(log)
		errs := make(chan error, 10)
		for i := range 10 {
			go func() {
				_, err := n.Propose(context.Background(), Normal, []byte(line(i)))
				errs <- err
			}()
			time.Sleep(10 * time.Millisecond)
		}
		time.AfterFunc(time.Second, release)
		r.stop("a")
		closed := 0
		for range 10 {
			switch err := <-errs; {
			case err == nil:
			case errors.Is(err, ErrClosed) && !errors.Is(err, ErrUnknown):
				closed++
			default:
				t.Errorf("propose: %v", err)
			}
		}
		if closed == 0 {
			t.Error("nothing that waited was refused")
		}
		if n.fsm.has(line(0)) != 1 || len(n.fsm.lines()) != 10-closed {
			t.Errorf("%d lines, %d were refused", len(n.fsm.lines()), closed)
		}
	})
}
