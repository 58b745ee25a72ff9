package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// What is remembered must never differ from what would be made now.
func TestRememberedJobIsMadeAnewWhenAnythingChanges(t *testing.T) {
	now := time.Date(2026, 11, 23, 7, 5, 0, 0, time.UTC)
	window := func(from time.Time) *saltpeter.Window {
		return &saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "j", Pause: true, FromMillis: from.UnixMilli()}
	}
	schedule := saltpeter.Schedule{Sec: "30", Min: "*", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"}
	j := saltpeter.JobStatus{Job: &saltpeter.Job{Name: "j", Command: "a", Schedule: schedule}}
	s := new(Server)
	for _, step := range []struct {
		what   string
		change func()
		same   bool
	}{
		{"the first", func() {}, false},
		{"nothing", func() {}, true},
		{"just before the tick", func() { now = now.Add(29*time.Second + 999*time.Millisecond) }, true},
		{"at the tick", func() { now = now.Add(time.Millisecond) }, false},
		{"the clock went back", func() { now = now.Add(-time.Second) }, false},
		{"a run", func() { j.LastRun = &saltpeter.Run{Num: 1, Job: "j"} }, false},
		{"the run's next state", func() { r := *j.LastRun; r.State = saltpeter.RunOK; j.LastRun = &r }, false},
		{"its end", func() { j.LastEnd = j.LastRun }, false},
		{"one is active", func() { j.Active++ }, false},
		{"a skip", func() { j.Skipped++ }, false},
		{"a revision", func() { j.Revision++ }, false},
		{"a definition", func() { c := *j.Job; c.Command = "b"; j.Job = &c }, false},
		{"a line more in the file", func() { c := *j.Job; c.Source = "f.yaml:2"; j.Job = &c }, false},
		{"a pause to come", func() { j.Paused = window(now.Add(5 * time.Second)) }, false},
		{"it begins", func() { now = now.Add(5 * time.Second) }, false},
		{"it ends", func() { j.Paused = nil }, false},
	} {
		before := s.jobTexts.known["j"].text
		step.change()
		got, err := s.jobText(&j, now)
		if err != nil {
			t.Fatal(err)
		}
		if (got == before) != step.same {
			t.Errorf("%s: taken as it was: %v, want %v", step.what, got == before, step.same)
		}
		want, err := json.Marshal(jobOf(&j, s.schedules.of(&j.Job.Schedule), now))
		if err != nil || string(got.json) != string(want) {
			t.Errorf("%s: %s, want %s (%v)", step.what, got.json, want, err)
		}
	}
}

func TestMemoryOfRememberedItemsIsBounded(t *testing.T) {
	var known texts[int, int]
	item := strings.Repeat("x", maxTexts/10)
	for i := range 100 {
		if _, err := known.get(i, 0, 0, func() (any, int64) { return item, 1 }); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, m := range known.known {
			sum += len(m.text.json)
		}
		if sum != known.bytes || sum > maxTexts || sum == 0 {
			t.Fatalf("after %d items %d bytes are kept, %d are counted (allowed: %d)", i+1, sum, known.bytes, maxTexts)
		}
	}
	if _, err := known.get(99, 1, 0, func() (any, int64) { return "y", 1 }); err != nil {
		t.Fatal(err)
	}
	if n := len(known.known); n == 0 || known.known[99].text.json[1] != 'y' {
		t.Fatalf("%d items are kept, the newest not among them", n)
	}
}

// A page of remembered items has the bytes that the page of shapes has.
func TestPageOfRememberedItemsIsAPage(t *testing.T) {
	s := new(Server)
	page, want := textPage{next: numberCursor(cursorRuns, 7), index: 12}, Page[Run]{NextCursor: numberCursor(cursorRuns, 7), Index: 12}
	for i := range 3 {
		r := &saltpeter.Run{Num: uint64(i), ID: "<j>_1", Job: "<j>", Note: "a&b"}
		item, err := s.runText(r)
		if err != nil {
			t.Fatal(err)
		}
		page.items, want.Items = append(page.items, item), append(want.Items, runOf(r))
		got, tag, err := page.encode()
		if err != nil {
			t.Fatal(err)
		}
		if wanted, _, err := want.encode(); err != nil || string(got) != string(wanted) {
			t.Errorf("%s, want %s (%v)", got, wanted, err)
		}
		page.index++
		if _, again, _ := page.encode(); again != tag {
			t.Errorf("a page is not recognized when only the index has grown: %s, then %s", tag, again)
		}
		page.index--
		page.next += "x"
		if _, other, _ := page.encode(); other == tag {
			t.Error("another cursor has the same tag")
		}
		page.next = want.NextCursor
	}
}
