package api

import (
	"crypto/sha256"
	"math"
	"strconv"
	"sync"
	"time"
	"weak"

	"github.com/syscollective/saltpeter"
)

// maxTexts bounds the memory of one kind of remembered items, in bytes of JSON; beyond it all are forgotten and made anew.
const maxTexts = 16 << 20

// text is an item of a list as JSON. By sum it is recognized.
type text struct {
	json []byte
	sum  [sha256.Size]byte
}

// texts remembers the JSON of items of lists, by name: to make it costs more than all else of an answer. An item is taken as
// it was if it is made of the very same things, which key tells, and the time that it was made for lasts.
type texts[Name, Key comparable] struct {
	mu    sync.Mutex // guards what follows
	known map[Name]made[Key]
	bytes int
}

// made is a text with what it was made of. It holds from one Unix second until just before another.
type made[Key comparable] struct {
	of          Key
	from, until int64
	text        *text
}

// get gives the text of an item at a time, as it was, or made by shape, which tells too until when it holds.
func (t *texts[Name, Key]) get(name Name, of Key, now int64, shape func() (item any, until int64)) (*text, error) {
	t.mu.Lock()
	m, known := t.known[name]
	t.mu.Unlock()
	if known && m.of == of && m.from <= now && now < m.until {
		return m.text, nil
	}
	item, until := shape()
	body, err := encode(item)
	if err != nil {
		return nil, err
	}
	body = body[:len(body)-1] // the line feed
	fresh := &text{json: body, sum: sha256.Sum256(body)}
	t.put(name, made[Key]{of: of, from: now, until: until, text: fresh})
	return fresh, nil
}

func (t *texts[Name, Key]) put(name Name, m made[Key]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, known := t.known[name]; known {
		t.bytes -= len(old.text.json)
	}
	if t.known == nil || t.bytes+len(m.text.json) > maxTexts {
		t.known, t.bytes = map[Name]made[Key]{}, 0
	}
	t.known[name] = m
	t.bytes += len(m.text.json)
}

// jobKey is what the JSON of a job is made of, beside the time. The record never changes what it gave out, so the same
// pointer is the same content. Those to runs are weak: a run that the record has forgotten holds up to 10,000 machines.
type jobKey struct {
	job              *saltpeter.Job
	digest           saltpeter.Digest
	revision         uint64
	active           int
	skipped          uint64
	lastRun, lastEnd weak.Pointer[saltpeter.Run]
	paused           *saltpeter.Window
	pausing          bool // the window is active
}

func (s *Server) jobText(j *saltpeter.JobStatus, now time.Time) (*text, error) {
	key := jobKey{
		job: j.Job, digest: j.Digest, revision: j.Revision, active: j.Active, skipped: j.Skipped,
		lastRun: weak.Make(j.LastRun), lastEnd: weak.Make(j.LastEnd),
		paused: j.Paused, pausing: j.Paused != nil && j.Paused.ActiveAt(now.UnixMilli()),
	}
	return s.jobTexts.get(j.Job.Name, key, now.Unix(), func() (any, int64) {
		m, until := s.schedules.of(&j.Job.Schedule), int64(math.MaxInt64)
		if m.schedule != nil {
			if next, due := m.schedule.Next(now); due {
				until = next.Unix()
			}
		}
		return jobOf(j, m, now), until
	})
}

func (s *Server) runText(r *saltpeter.Run) (*text, error) {
	return s.runTexts.get(r.Num, weak.Make(r), 0, func() (any, int64) { return runOf(r), math.MaxInt64 })
}

// textPage is a Page of items that are JSON already.
type textPage struct {
	items []*text
	next  string
	index uint64
}

// encode gives what Page gives, and recognizes it by its items.
func (p textPage) encode() (body []byte, tag string, err error) { //nolint:unparam // one interface with Page
	size := 64 + len(p.next)
	for _, t := range p.items {
		size += len(t.json) + 1
	}
	body = append(make([]byte, 0, size), `{"items":[`...)
	sums := make([]byte, 0, len(p.items)*sha256.Size+len(p.next))
	for i, t := range p.items {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, t.json...)
		sums = append(sums, t.sum[:]...)
	}
	body = append(body, ']')
	if p.next != "" { // a cursor has no character that JSON would escape
		body = append(append(append(body, `,"next_cursor":"`...), p.next...), '"')
	}
	body = strconv.AppendUint(append(body, `,"index":`...), p.index, 10)
	return append(body, "}\n"...), etag(append(sums, p.next...)), nil
}
