package form

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
)

// bulk writes so much that a backup with it takes many entries.
const bulk = `
bulk:
  schedule: '0 0 1 1 *'
  targets: m1,m2,m3
  target_type: list
  command: 'seq 1 70000 | sed "s/^/$SP_MACHINE_ID /"'
`

// TestAnAbandonedRestore: a client leaves while its backup is on its way into the record, another sends half of the same backup
// and then nothing. What a third one restores meanwhile, from a later backup, is whole, and stays in force when the slow one
// goes on.
func TestAnAbandonedRestore(t *testing.T) {
	r := newRig(t)
	r.addJob(bulk)
	leader := r.form()
	follower, other := leader%3+1, (leader+1)%3+1
	r.finished(leader, "bulk", "bulk-1")
	big := r.finished(leader, "bulk", "bulk-2")
	r.spctl(leader, 0, "maintenance", "on", "--all", "--forever")
	older := r.saved(leader, "older")
	r.spctl(leader, 0, "maintenance", "off", "--all")
	marker := r.finished(leader, "tick", "marker")
	r.spctl(leader, 0, "maintenance", "on", "--all", "--forever")
	newer := r.saved(leader, "newer")

	first, rest := older[:len(older)/2], older[len(older)/2:]
	body, more := io.Pipe()
	slow := make(chan error, 1)
	go func() {
		_, err := r.nodes[other].RestoreSnapshot(t.Context(), io.MultiReader(bytes.NewReader(first), body), false, false)
		slow <- err
	}()
	r.spooling(other, 1)
	r.leaveMeanwhile(follower, older)

	got, err := r.nodes[leader].RestoreSnapshot(t.Context(), bytes.NewReader(newer), false, false)
	if err != nil || got.Value.Epoch != 2 || got.Value.LeftOut != 0 || got.Value.Reached != 3 {
		t.Fatalf("restore: %+v, %v", got.Value, err)
	}
	go func() {
		_, err := more.Write(rest)
		_ = more.CloseWithError(err) // nil: the body is whole
	}()
	if err := <-slow; saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Errorf("the slow restore: %v", err)
	}
	for i := 1; i <= 3; i++ {
		if _, err := r.nodes[i].Run(t.Context(), marker); err != nil {
			t.Errorf("n%d lacks what only the newer backup has: %v", i, err)
		}
		for _, machine := range []string{"m1", "m2", "m3"} {
			var b bytes.Buffer
			if err := r.nodes[i].Output(t.Context(), big, machine, 0, false, &b); err != nil || !bytes.Equal(b.Bytes(), bulkOf(machine)) {
				t.Errorf("output of %s on n%d: %d bytes, %v", machine, i, b.Len(), err)
			}
		}
	}
	if got, err := r.nodes[follower].RestoreSnapshot(t.Context(), bytes.NewReader(newer), true, false); err != nil || got.Value.Epoch != 2 {
		t.Errorf("in the end: %+v, %v", got.Value, err)
	}
}

func bulkOf(machine string) []byte {
	var b bytes.Buffer
	for i := range 70000 {
		fmt.Fprintf(&b, "%s %d\n", machine, i+1)
	}
	return b.Bytes()
}

// finished starts a job and waits for the end of the run.
func (r *rig) finished(i int, job, key string) (run string) {
	r.t.Helper()
	started, err := r.nodes[i].Start(r.t.Context(), client.Start{Job: job, Key: key})
	if err != nil {
		r.t.Fatal(err)
	}
	run = started.Value.ID
	r.until("the end of "+run, func(ctx context.Context) (bool, error) {
		got, err := r.nodes[i].Run(ctx, run)
		return err == nil && got.Value.Ended != 0, err
	})
	return run
}

func (r *rig) saved(i int, name string) []byte {
	r.t.Helper()
	file := r.dir + "/" + name
	r.spctl(i, 0, "snapshot", "save", file, "--with-output")
	b, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// spooling waits until node i has at least so many bytes of a backup that is being sent.
func (r *rig) spooling(i int, bytes int64) {
	r.t.Helper()
	r.until("the backup to arrive", func(context.Context) (bool, error) {
		got, err := r.spooled(i)
		return got >= bytes, err
	})
}

// spooled is how much node i keeps of a backup that is being restored, -1 if it keeps none.
func (r *rig) spooled(i int) (int64, error) {
	names, err := filepath.Glob(r.data(i) + "/restore-*")
	if err != nil || len(names) == 0 {
		return -1, err
	}
	info, err := os.Stat(names[0])
	if err != nil {
		return -1, err
	}
	return info.Size(), nil
}

// leaveMeanwhile sends a backup and leaves when some of its parts are in the log and others are not.
func (r *rig) leaveMeanwhile(i int, backup []byte) {
	r.t.Helper()
	before := r.applied(i)
	ctx, leave := context.WithCancel(r.t.Context())
	defer leave()
	gone := make(chan error, 1)
	go func() {
		_, err := r.nodes[i].RestoreSnapshot(ctx, bytes.NewReader(backup), false, false)
		gone <- err
	}()
	r.spooling(i, int64(len(backup)))
	for r.applied(i) < before+3 {
		time.Sleep(time.Millisecond)
	}
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		r.t.Fatalf("the restore was over before its client left: %v", err)
	}
	r.until("the abandoned backup to go", func(context.Context) (bool, error) {
		got, err := r.spooled(i)
		return got < 0, err
	})
	n, parts := r.applied(i)-before, uint64(len(backup)/(96<<10))
	r.t.Logf("left after %d entries, for %d parts", n, parts)
	if n >= parts {
		r.t.Fatal("it was not left in the middle")
	}
}

// applied is how far node i is.
func (r *rig) applied(i int) uint64 {
	r.t.Helper()
	got, err := r.nodes[i].Cluster(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range got.Value.Members {
		if m.Self {
			return m.Applied
		}
	}
	r.t.Fatalf("n%d is no member: %+v", i, got.Value)
	return 0
}
