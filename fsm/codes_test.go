package fsm

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

var update = flag.Bool("update", false, "write golden files anew (codes.golden only grows)")

// goldenEnvelope and goldenCommands have every field set, so that their encodings show every field's number.
var goldenEnvelope = Envelope{Millis: 1795392000123, Term: 7, Actor: "ann", Origin: "unix socket", Request: "r-1"}

func goldenCommands() []Command {
	digest := saltpeter.DigestOf([]byte("definition"))
	ref := saltpeter.TargetRef{Run: 9, Target: 3}
	sight := saltpeter.LaunchSight{Launch: 1795392000123456, Machine: "web-1", BootID: "b", Host: "h", Version: "1.0", Remark: "r"}
	return []Command{
		&InitCluster{ClusterID: "c-1"},
		&PutDefinitions{Encoded: [][]byte{[]byte("definition")}},
		&ApplyConfig{ID: "p", Part: 1, Last: true, Jobs: []saltpeter.JobDigest{{Name: "j", Digest: digest}}, FilesDigest: "f",
			Settings: []byte("{}"), Maintenance: saltpeter.FileMaintenance{Global: true, Machines: []string{"m"}}},
		&ClaimRuns{Claims: []saltpeter.Claim{{Job: "j", Digest: digest, Tick: 1795392000, Skip: saltpeter.SkipMissed, Last: 1795392009,
			Count: 10, Cause: "tick"}}},
		&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k", Note: "n", Machines: []string{"m"}, Parent: "j_1"}},
		&SetTargets{Run: 9, Attempt: "a", Part: 1, Last: true, Machines: []string{"m", "n"}, Down: []int{1}},
		&LaunchBatch{Run: 9, Batch: 1},
		&StartTarget{Ask: saltpeter.StartAsk{Sight: sight, Ref: ref, Nonce: saltpeter.Nonce{1}, Ask: 2}},
		&RefuseLock{Refusal: saltpeter.LockRefusal{Sight: sight, Ref: ref, Text: "held"}},
		&Report{Reports: []saltpeter.Report{{Ref: ref, Nonce: saltpeter.Nonce{1}, Words: []saltpeter.Word{
			{Kind: saltpeter.WordOutput, Seq: 1, AtMillis: 2, Data: []byte("x")},
			{Kind: saltpeter.WordSkip, Seq: 2, Skipped: 3, Covers: 4},
			{Kind: saltpeter.WordResult, Seq: 6, Code: 143, Signal: 15, Cause: saltpeter.EndKill, Text: "t"}}}}},
		&EndTargets{Run: 9, Ends: []saltpeter.TargetEnd{{Target: 3, From: saltpeter.Launched, State: saltpeter.NotStarted, Text: "t"}}},
		&EndRun{Run: 9, State: saltpeter.RunNoTargets, Text: "t"},
		&Kill{Run: 9, Machines: []string{"m"}},
		&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "j", Pause: true, File: true, FromMillis: 1, UntilMillis: 2,
			OffMillis: 3, Actor: "a", Reason: "r"}},
		&LiftWindow{Scope: saltpeter.ScopeJob, Name: "j", Pause: true},
		&Retain{Round: 4},
		&CompactOutput{From: 1, To: 2},
		&SetNode{Node: NodeRecord{ID: "i", Name: "n", Version: "v", Commands: 20, Gateway: "wss://h", Files: "f"}},
		&PullMarks{To: 1795392000},
		&BeginEpoch{Epoch: 2, Reason: "r"},
		&PutToken{Token: saltpeter.Token{Name: "ci", Role: saltpeter.RoleOperator, Hash: digest, Actor: "a", Origin: "o", CreatedMillis: 1,
			ExpiresMillis: 2, RevokedMillis: 3, RevokedBy: "b"}},
		&RevokeToken{Hash: digest},
		&SetLaunchKey{Key: "k"},
		&RestorePart{ID: "r", Part: 1, Kind: 2, Data: []byte("part"), Epoch: 5},
		&Restore{ID: "r", Parts: 2, Foreign: true},
		&ForgetNode{ID: "i"},
		&LoseSegments{Round: 2, Feed: true, Segments: []LostSegment{{No: 3, Last: 4, Gen: 1}}},
	}
}

// TestCommandsKeepTheirEncoding holds numbers, names and encodings to the golden table: raft logs hold them. Lines may be
// added, never changed.
func TestCommandsKeepTheirEncoding(t *testing.T) {
	const file = "testdata/codes.golden"
	var lines []string
	for i, c := range goldenCommands() {
		if int(c.Code()) != i+1 {
			t.Fatalf("%T has code %d, want %d", c, c.Code(), i+1)
		}
		b, err := Encode(goldenEnvelope, c)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%d %s %s", c.Code(), reflect.TypeOf(c).Elem().Name(), hex.EncodeToString(b)))
	}
	if len(lines) != int(NewestCode) || len(newCommand) != int(NewestCode) {
		t.Fatalf("%d golden commands, %d decodable ones, newest code %d", len(lines), len(newCommand), NewestCode)
	}
	golden, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	old := strings.Fields(strings.ReplaceAll(strings.TrimSpace(string(golden)), " ", "\x00"))
	for i, line := range old {
		if line = strings.ReplaceAll(line, "\x00", " "); i >= len(lines) || lines[i] != line {
			t.Errorf("line %d was\n%s", i+1, line)
		}
	}
	switch {
	case t.Failed():
		t.Fatal("the encoding of a released command changed")
	case *update:
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	case len(old) != len(lines):
		t.Errorf("%d lines, want %d: run with -update", len(old), len(lines))
	}
}

func TestCommandsDecodeToWhatTheyWere(t *testing.T) {
	for _, c := range goldenCommands() {
		if v := reflect.ValueOf(c).Elem(); zeroField(v) != "" {
			t.Errorf("%T: field %s of the golden value is not set", c, zeroField(v))
		}
		b, err := Encode(goldenEnvelope, c)
		if err != nil {
			t.Fatal(err)
		}
		env, got, err := Decode(b)
		if err != nil || env != goldenEnvelope || !reflect.DeepEqual(got, c) {
			t.Errorf("%T: %+v, %+v, %v", c, env, got, err)
		}
		for n := range b {
			if _, _, err := Decode(b[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes were decoded", c, n, len(b))
			}
		}
		if _, _, err := Decode(append(b, 0)); err == nil {
			t.Errorf("%T: decoded with a byte too many", c)
		}
	}
}

// zeroField names a direct field that is not set.
func zeroField(v reflect.Value) string {
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			return v.Type().Field(i).Name
		}
	}
	return ""
}

func TestUnknownCommandsAreTold(t *testing.T) {
	b, err := Encode(goldenEnvelope, &Retain{})
	if err != nil {
		t.Fatal(err)
	}
	for _, head := range [][2]byte{{0, 1}, {byte(NewestCode) + 1, 1}, {255, 1}, {byte(CodeRetain), 2}, {byte(CodeRetain), 0}} {
		c := append([]byte{head[0], head[1]}, b[2:]...)
		if _, _, err := Decode(c); !isUnknown(err) {
			t.Errorf("code %d version %d: %v", head[0], head[1], err)
		}
	}
	if _, err := DecodeBody(NewestCode+1, []byte{0xa0}); !isUnknown(err) {
		t.Errorf("body of an unknown code: %v", err)
	}
	if _, err := DecodeBody(CodeKill, []byte{0xff}); err == nil || isUnknown(err) {
		t.Errorf("malformed body: %v", err)
	}
}

// TestTextThatIsNotUTF8IsTaken: what was encoded must be decodable by every node, or the cluster halts.
func TestTextThatIsNotUTF8IsTaken(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now += 1000
	res := w.claim("j", t0+1)
	w.plan(&EndRun{Run: res.Run, State: saltpeter.RunLaunchFailed, Text: "stderr: \xff\xfe"})
	if got := w.run(res.Run); got.State != saltpeter.RunLaunchFailed || got.Text != "stderr: \xff\xfe" {
		t.Fatalf("%+v", got)
	}
	snap := encodeState(t, w.m)
	if _, _, err := readSnapshot(strings.NewReader(string(snap))); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.events() {
		if strings.ToValidUTF8(e.Text, "") != e.Text {
			t.Fatalf("event %+v is not UTF-8", e)
		}
	}
}
