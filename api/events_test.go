package api_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

func someEvents() []saltpeter.Event {
	return []saltpeter.Event{
		{Type: saltpeter.EventRunClaimed, Job: "a", Run: "a_1"},
		{Type: saltpeter.EventMachineResult, Job: "a", Run: "a_1", Machine: "m1", State: "failed", Code: 7},
		{Type: saltpeter.EventRunFinished, Job: "a", Run: "a_1", State: "failed", Counted: 1},
		{Type: saltpeter.EventRunClaimed, Job: "b", Run: "b_2"},
		{Type: saltpeter.EventSkipped, Job: "b", Text: "paused"},
		{Type: saltpeter.EventWindowSet, Actor: "mira", Text: "all"},
		{Type: saltpeter.EventNodeChanged, Text: "sp-2"},
	}
}

// idsOf gives the ids of a stream that has ended, with the events that have none.
func idsOf(t *testing.T, body io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, id)
		}
		if line == "event: gap" {
			ids = append(ids, "gap")
		}
	}
	return strings.Join(ids, " ")
}

func TestEventsOfTopics(t *testing.T) {
	n := apitest.New()
	n.Emit(someEvents()...)
	h := newServer(t, n).Handler(api.OriginNetwork)
	for query, want := range map[string]string{
		"":                           "1-1 1-2 1-3 1-4 1-5 1-6 1-7",
		"&topics=runs":               "1-1 1-3 1-4",
		"&topics=machines,skips":     "1-2 1-5",
		"&topics=maintenance":        "1-6",
		"&topics=cluster":            "1-7",
		"&topics=job:b":              "1-4 1-5",
		"&topics=run:a_1":            "1-1 1-2 1-3",
		"&topics=run:a_1,job:b,runs": "1-1 1-2 1-3 1-4 1-5",
		"&topics=job:none":           "",
	} {
		resp := ask(h, "GET", "/api/v1/events?follow=false&since=0"+query, "")
		if got := idsOf(t, resp.Body); got != want || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%q: %q (%s), want %q", query, got, resp.Header.Get("Content-Type"), want)
		}
	}
}

func TestEventsGoOnAfterAnID(t *testing.T) {
	n := apitest.New()
	n.Emit(someEvents()...)
	h := newServer(t, n).Handler(api.OriginNetwork)
	check := func(since, want string) {
		t.Helper()
		if got := idsOf(t, ask(h, "GET", "/api/v1/events?follow=false", "", "Last-Event-ID: "+since).Body); got != want {
			t.Errorf("after %s: %q, want %q", since, got, want)
		}
	}
	check("1-5", "1-6 1-7")
	check("1-7", "")
	check("1-9", "")
	n.DropEvents(5)
	check("1-2", "gap 1-5 1-6 1-7")
	check("1-4", "1-5 1-6 1-7")
	check("0", "1-5 1-6 1-7")
	n.BeginEpoch()
	n.Emit(someEvents()[:2]...)
	check("1-5", "gap 2-1 2-2")
}

func TestEventsRefuse(t *testing.T) {
	h := newServer(t, apitest.New()).Handler(api.OriginNetwork)
	for _, query := range []string{"since=x", "since=1-", "topics=", "topics=run", "topics=job:", "topics=x:y", "follow=perhaps", "topic=runs"} {
		if resp := ask(h, "GET", "/api/v1/events?"+query, ""); resp.StatusCode != http.StatusUnprocessableEntity && resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", query, resp.StatusCode)
		}
	}
}

// TestEventsAreLive reads events as they come, from now on, and the end of the stream when the server stops or the cluster
// begins anew.
func TestEventsAreLive(t *testing.T) {
	n := apitest.New()
	n.Emit(someEvents()...)
	srv := httptest.NewServer(newServer(t, n).Handler(api.OriginNetwork))
	defer srv.Close()
	lines := bufio.NewScanner(get(t, srv.URL+"/api/v1/events?topics=runs").Body)
	next := func() string {
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				return id
			}
		}
		return "end"
	}
	if !lines.Scan() { // the stream has its place by now
		t.Fatal(lines.Err())
	}
	for _, want := range []string{"1-8", "1-10"} {
		n.Emit(someEvents()[:2]...)
		if got := next(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	n.BeginEpoch()
	if got := next(); got != "end" {
		t.Errorf("got %s after the epoch's end", got)
	}
}

func TestEventStreamSaysThatItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := apitest.New()
		h := newServer(t, n).Handler(api.OriginNetwork)
		r, w := io.Pipe()
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events", nil)
		ended := make(chan struct{})
		go func() {
			h.ServeHTTP(&piped{header: http.Header{}, w: w}, req)
			close(ended)
		}()
		lines := bufio.NewScanner(r)
		began := time.Now()
		for lines.Scan() && lines.Text() != ": still here" {
		}
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("the first sign of life came after %v", took)
		}
		r.Close()
		<-ended // the write fails
	})
}

// piped writes an answer into a pipe.
type piped struct {
	header http.Header
	w      io.Writer
}

func (p *piped) Header() http.Header         { return p.header }
func (p *piped) WriteHeader(int)             {}
func (p *piped) Write(b []byte) (int, error) { return p.w.Write(b) }

// TestOutputEvents reads output as events, is cut off, and goes on at another place.
func TestOutputEvents(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	n.Begin(run.Num, 0)
	n.Print(run.Num, 0, []byte("hello\n\xff"))
	n.Finish(run.Num, 0, saltpeter.OK, 0)
	h := newServer(t, n).Handler(api.OriginNetwork)
	path := "/api/v1/runs/" + run.ID + "/machines/m/output?format=sse"
	for last, want := range map[string]string{"": "7 7", "6": "7 7", "7": "7"} {
		resp := ask(h, "GET", path, "", "Last-Event-ID: "+last)
		body := string(bodyOf(t, resp))
		if got := idsOf(t, strings.NewReader(body)); got != want {
			t.Errorf("after %q: ids %q, want %q", last, got, want)
		}
		if !strings.Contains(body, "event: end\n") {
			t.Errorf("after %q: no end in %q", last, body)
		}
	}
	if got := ask(h, "GET", path, "", "Last-Event-ID: x"); got.StatusCode == http.StatusOK {
		t.Error("an id that is no offset is taken")
	}
}
