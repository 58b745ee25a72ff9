package app

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/sinks"
)

// granted starts a run by hand, and has a wrapper with nonce 1 win it on machine m.
func (d *applied) granted(job string) saltpeter.TargetRef {
	d.t.Helper()
	d.do(&fsm.StartRun{Request: saltpeter.StartRequest{Job: job, Key: "k"}})
	d.do(&fsm.SetTargets{Run: 1, Attempt: "1", Last: true, Machines: []string{"m"}})
	l := d.do(&fsm.LaunchBatch{Run: 1}).(fsm.BatchLaunched).Launch
	ref := saltpeter.TargetRef{Run: 1}
	d.do(&fsm.StartTarget{Ask: saltpeter.StartAsk{Ref: ref, Nonce: saltpeter.Nonce{1}, Ask: 1,
		Sight: saltpeter.LaunchSight{Launch: l.ID, Machine: "m", BootID: "b"}}})
	return ref
}

func (d *applied) say(ref saltpeter.TargetRef, words ...saltpeter.Word) {
	d.t.Helper()
	d.do(&fsm.Report{Reports: []saltpeter.Report{{Ref: ref, Nonce: saltpeter.Nonce{1}, Words: words}}})
}

// follow writes the logs of all events that are there.
func (d *applied) follow(ctx context.Context, dir string) func() string {
	logs := sinks.NewLogFiles(sinks.Options{Feed: feed{d.a}, Outputs: outputs{d.a}, Cursor: filepath.Join(dir, "cursor"),
		Dir: func() string { return filepath.Join(dir, "logs") }})
	go func() { _ = logs.Run(ctx) }()
	return func() string {
		d.t.Helper()
		d.a.changes.take()
		time.Sleep(5 * time.Second)
		b, err := os.ReadFile(filepath.Join(dir, "logs", "slow.log"))
		if err != nil {
			d.t.Fatal(err)
		}
		return string(b)
	}
}

// TestLogsDoNotDependOnWhenTheyAreWritten: a node that writes a presumed result when it is told, and one that comes to it
// when that was replaced and more output had come, write the same bytes.
func TestLogsDoNotDependOnWhenTheyAreWritten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		d := newApplied(t)
		d.force(testJob("slow"))
		ref := d.granted("slow")
		fast := d.follow(ctx, filepath.Join(dir, "fast"))
		d.say(ref, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("begin\rBEGIN\n")},
			saltpeter.Word{Kind: saltpeter.WordSkip, Seq: 2, Skipped: 7})
		fast()
		d.do(&fsm.EndTargets{Run: 1, Ends: []saltpeter.TargetEnd{{From: saltpeter.Started, State: saltpeter.Lost, Text: "silent"}}})
		early := fast()
		d.say(ref, saltpeter.Word{Kind: saltpeter.WordSkip, Seq: 3, Skipped: 9}, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 4, Data: []byte("end\n")},
			saltpeter.Word{Kind: saltpeter.WordResult, Seq: 5, Code: 3})
		want := fast()
		late := d.follow(ctx, filepath.Join(dir, "late"))()
		if late != want {
			t.Errorf("late:\n%s\nfast:\n%s", late, want)
		}
		if !strings.Contains(early, "BEGIN\n\n[7 bytes left out]\n") || strings.Contains(early, "[9 bytes") || !strings.HasPrefix(want, early) ||
			!strings.Contains(want[len(early):], "**** Exit Code 3 ******\nBEGIN\n\n[7 bytes left out]\n\n[9 bytes left out]\nend\n") {
			t.Errorf("first:\n%s\nthen:\n%s", early, want)
		}
	})
}

// save gives the parts of a backup with output.
func (d *applied) save() (parts []fsm.RestorePart) {
	d.t.Helper()
	var b bytes.Buffer
	if _, err := d.a.machine.WriteBackup(&b, backup.About{Output: true}); err != nil {
		d.t.Fatal(err)
	}
	_, _, err := backup.Read(&b, func(k backup.Kind, body []byte) error {
		parts = append(parts, fsm.RestorePart{ID: "r", Part: len(parts), Kind: k, Data: slices.Clone(body)})
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return parts
}

// TestLogsOverARestore: what is written stays, a run that had ended since the backup has a second result, 253, with the output
// that the backup has, and nothing else is written again.
func TestLogsOverARestore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		d := newApplied(t)
		d.force(testJob("slow"))
		ref := d.granted("slow")
		read := d.follow(ctx, dir)
		d.say(ref, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("begin\n")})
		parts := d.save()
		d.say(ref, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 2, Data: []byte("end\n")}, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 3})
		before := read()
		for i := range parts {
			d.do(&parts[i])
		}
		d.do(&fsm.Restore{ID: "r", Parts: len(parts)})
		after := read()
		more, ok := strings.CutPrefix(after, before)
		if !ok || strings.Count(before, "**** Exit Code 0 ******\nbegin\nend\n") != 1 {
			t.Fatalf("what was written changed:\n%s\nbefore:\n%s", after, before)
		}
		if strings.Count(more, "**** Exit Code 253 ******") != 1 || strings.Count(more, "begin\n") != 1 || strings.Contains(more, "end\n") ||
			!strings.Contains(more, "restored") || strings.Count(more, "###### Finished") != 1 || strings.Contains(more, "###### Starting") {
			t.Errorf("after the restore:\n%s", more)
		}
	})
}
