package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/syscollective/saltpeter"
)

// eventBatch is how many events are read at a time.
const eventBatch = 256

// Event is one event of the change feed in JSON.
type Event struct {
	ID      string `json:"id"` // for Last-Event-ID: the cluster's epoch and the number in it
	Type    string `json:"type"`
	Time    Time   `json:"time"`
	Job     string `json:"job,omitempty"`
	Group   string `json:"group,omitempty"`
	Run     string `json:"run,omitempty"`
	Machine string `json:"machine,omitempty"`
	State   string `json:"state,omitempty"` // of the machine or the run
	Code    *int   `json:"code,omitempty"`  // of machine-result
	OK      *int   `json:"ok,omitempty"`    // of run-finished: machines that are ok, of those that count
	Counted *int   `json:"counted,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Again   bool   `json:"again,omitempty"` // a witnessed result replaced a presumed one
	Text    string `json:"text,omitempty"`
}

// EventGap is sent in place of events that are not there any more.
type EventGap struct {
	Since string `json:"since"` // the id that was presented
	Next  string `json:"next"`  // the id after which the stream goes on
}

func eventOf(epoch uint64, e *saltpeter.Event) Event {
	out := Event{
		ID: eventID(epoch, e.Seq), Type: e.Type.String(), Time: Time(e.Millis), Job: e.Job, Group: e.Group, Run: e.Run, Machine: e.Machine,
		State: e.State, Actor: e.Actor, Again: e.Again, Text: e.Text,
	}
	if e.Type == saltpeter.EventMachineResult {
		out.Code = &e.Code
	}
	if e.Type == saltpeter.EventRunFinished {
		out.OK, out.Counted = &e.OK, &e.Counted
	}
	return out
}

func eventID(epoch, seq uint64) string {
	return strconv.FormatUint(epoch, 10) + "-" + strconv.FormatUint(seq, 10)
}

func parseEventID(id string) (epoch, seq uint64, ok bool) {
	first, second, found := strings.Cut(id, "-")
	epoch, err1 := strconv.ParseUint(first, 10, 64)
	seq, err2 := strconv.ParseUint(second, 10, 64)
	return epoch, seq, found && err1 == nil && err2 == nil
}

// topics are what a stream is about; all of it without any.
type topics []string

const topicHint = "a list of runs, machines, skips, maintenance, cluster, job:NAME, run:ID"

func (p params) topics() (topics, error) {
	text, given := p["topics"]
	if !given {
		return nil, nil
	}
	var out topics
	for word := range strings.SplitSeq(text, ",") {
		kind, name, named := strings.Cut(word, ":")
		switch {
		case named && (kind == "job" || kind == "run") && name != "":
		case slices.Contains([]string{"runs", "machines", "skips", "maintenance", "cluster"}, word):
		default:
			return nil, badParam("topics", word, topicHint)
		}
		out = append(out, word)
	}
	return out, nil
}

func (t topics) match(e *saltpeter.Event) bool {
	return len(t) == 0 || slices.ContainsFunc(t, func(topic string) bool {
		kind, name, named := strings.Cut(topic, ":")
		switch {
		case named && kind == "job":
			return e.Job == name
		case named:
			return e.Run == name
		}
		return topic == topicOf(e.Type)
	})
}

func topicOf(t saltpeter.EventType) string {
	switch t {
	case saltpeter.EventRunClaimed, saltpeter.EventRunFinished, saltpeter.EventRunKilled, saltpeter.EventNoTargets, saltpeter.EventLauncherError:
		return "runs"
	case saltpeter.EventMachineStarted, saltpeter.EventMachineResult, saltpeter.EventMachineMaintenance, saltpeter.EventSoftTimeout:
		return "machines"
	case saltpeter.EventOverlap, saltpeter.EventSkipped:
		return "skips"
	case saltpeter.EventWindowSet, saltpeter.EventWindowLifted:
		return "maintenance"
	default:
		return "cluster"
	}
}

// feedStream is one request for the change feed on its way.
type feedStream struct {
	*eventStream
	feed   Feed
	epoch  uint64
	topics topics
	next   uint64 // number of the next event
	since  string // as the client gave it
}

// getEvents streams the change feed as server-sent events: after the id in Last-Event-ID or since ("0" is the oldest there
// is), else from now on. With follow=false it ends where the feed ends.
func (c *call) getEvents() error {
	follow := true
	if _, given := c.params["follow"]; given {
		var err error
		if follow, err = c.params.flag("follow"); err != nil {
			return err
		}
	}
	s := &feedStream{eventStream: &eventStream{c: c}, feed: c.s.node.Events(), since: c.r.Header.Get("Last-Event-ID")}
	if since, given := c.params["since"]; given && s.since == "" {
		s.since = since
	}
	var err error
	if s.topics, err = c.params.topics(); err != nil {
		return err
	}
	if err := s.position(); err != nil {
		return err
	}
	release, err := c.stream()
	if err != nil {
		return err
	}
	defer release()
	sent := startEvents(c)
	sent.buf.Write(s.buf.Bytes()) // a gap
	s.eventStream = sent
	if c.r.Method != http.MethodHead {
		s.run(follow)
	}
	return nil
}

// position finds where the stream begins, after a barrier unless a stale read is asked for: what a client has seen happen
// is then behind that place.
func (s *feedStream) position() error {
	v, err := s.c.view()
	if err != nil {
		return err
	}
	s.epoch = v.Epoch()
	first, next := s.feed.Bounds()
	switch s.since {
	case "":
		s.next = next
		return nil
	case "0":
		s.next = first
		return nil
	}
	epoch, seq, ok := parseEventID(s.since)
	if !ok {
		return badParam("since", s.since, "the id of an event, or 0")
	}
	s.next = seq + 1
	if epoch != s.epoch || s.next < first {
		s.next = first
		s.gap()
	}
	return nil
}

func (s *feedStream) gap() {
	s.put("gap", "", EventGap{Since: s.since, Next: eventID(s.epoch, s.next-1)})
}

// run sends what there is, and then what comes.
func (s *feedStream) run(follow bool) {
	for {
		moved := s.feed.Moved()
		more, err := s.collect()
		if err != nil {
			s.c.s.log.Error("read change feed", "request", s.c.by.Request, "err", err)
			return
		}
		if !s.flush() {
			return
		}
		if !more && (!follow || !s.pause(moved)) {
			return
		}
	}
}

// collect reads a batch and says whether there is more.
func (s *feedStream) collect() (more bool, err error) {
	if first, _ := s.feed.Bounds(); s.next < first {
		s.since, s.next = eventID(s.epoch, s.next-1), first
		s.gap() // they were dropped while the client was reading
	}
	read := 0
	err = s.feed.Events(s.next, func(e saltpeter.Event) bool {
		if read == eventBatch {
			more = true
			return false
		}
		read++
		s.next = e.Seq + 1
		if s.topics.match(&e) {
			shape := eventOf(s.epoch, &e)
			s.put(shape.Type, shape.ID, shape)
		}
		return true
	})
	return more, err
}

// pause waits for events and reports whether to go on. A new epoch is another history: the stream ends there, and the client
// is told when it comes back with its id.
func (s *feedStream) pause(moved <-chan struct{}) bool {
	if !s.eventStream.pause(moved) {
		return false
	}
	v, err := s.c.s.node.Read(s.c.r.Context(), true)
	return err == nil && v.Epoch() == s.epoch
}
