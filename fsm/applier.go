package fsm

import (
	"fmt"
	"strings"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// effects is the one thing outside the state that apply writes: the store of output and the change feed. Both ignore
// what they have already (outlog.Store, outlog.Feed). An error of theirs halts the machine.
type effects interface {
	appendOutput(key outlog.Key, f outlog.Frame)
	dropOutput(run uint64)
	compact(from, to uint64)
	lose(feed bool, lost []outlog.SegmentInfo)
	appendEvent(seq uint64, encoded []byte, limit int64)
}

// applier applies the commands of one entry. It is used by raft's goroutine alone.
type applier struct {
	s    *state
	env  *Envelope
	term uint64 // of the entry
	out  effects
	// gaps names the targets of which the Report that is applied brought a number too high: nothing numbered is taken of them
	// any more, or else the same command again would take what it passed over.
	gaps map[saltpeter.TargetRef]bool
	// changed says what a reader may want to look at again; given to Machine's subscriber after the entry.
	changed Change
}

// Change says what an entry changed.
type Change struct {
	Index uint64
	Runs  []uint64              // runs that were created, or whose state or targets changed; may repeat
	Plan  bool                  // jobs, settings, windows or marks changed otherwise than by claims
	Kills []saltpeter.TargetRef // granted or started targets that are to be killed
	Words []saltpeter.TargetRef // targets with new output or words; may repeat
	Epoch bool                  // a new epoch began: what was known of targets by others than the record means nothing now
}

// stale reports whether the command was planned by a leadership other than the one that committed it (G7).
func (a *applier) stale() *Refusal {
	if a.env.Term != 0 && a.env.Term != a.term {
		return &Refusal{Code: saltpeter.CodeNoLeader, Message: fmt.Sprintf("planned in term %d, committed in term %d", a.env.Term, a.term)}
	}
	return nil
}

func (a *applier) touch(run uint64) {
	if n := len(a.changed.Runs); n == 0 || a.changed.Runs[n-1] != run {
		a.changed.Runs = append(a.changed.Runs, run)
	}
}

// maxEventText bounds the texts of an event, in bytes.
const maxEventText = 8 << 10

// eventText makes a text fit for an event: readers of the feed are promised UTF-8 of a bounded length.
func eventText(s string) string {
	if len(s) > maxEventText {
		s = s[:maxEventText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// event appends to the change feed.
func (a *applier) event(e saltpeter.Event) {
	for _, text := range []*string{&e.Text, &e.Machine, &e.Actor, &e.Job, &e.Group, &e.Run} {
		*text = eventText(*text)
	}
	e.Seq = a.s.feedNext
	e.Millis = a.env.Millis
	b, err := encMode.Marshal(e)
	if err != nil { // an Event holds nothing that CBOR can't encode
		return
	}
	a.out.appendEvent(e.Seq, b, a.s.revision.Settings.FeedTotal)
	a.s.feedNext++
}

func (a *applier) runEvent(r *run, e saltpeter.Event) {
	e.Job, e.Group, e.Run = r.Job, r.Group, r.ID
	e.Ref.Run = r.Num
	a.event(e)
}

func (a *applier) targetEvent(r *run, i uint32, e saltpeter.Event) {
	e.Ref.Target = i
	e.Machine = r.at(i).machine.Value()
	a.runEvent(r, e)
}

func refuse(code saltpeter.ErrorCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (r *Refusal) hint(format string, args ...any) *Refusal {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}
