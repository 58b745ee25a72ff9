package fsm

import (
	"math"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// Reasons of refusals of reports.
const (
	reportUnknown  = "unknown run"
	reportStranger = "not the winner"
)

func (c *Report) apply(a *applier) any {
	a.gaps = nil
	for i := range c.Reports {
		a.report(&c.Reports[i])
	}
	// Answers tell of the state after the whole command, so that they are the same when it comes again.
	out := Reported{Answers: make([]saltpeter.ReportAnswer, len(c.Reports))}
	for i := range c.Reports {
		out.Answers[i] = a.answer(&c.Reports[i])
	}
	return out
}

func (a *applier) report(rep *saltpeter.Report) {
	if a.refuses(rep) != "" {
		return
	}
	r, i := a.s.mutRun(rep.Ref.Run), rep.Ref.Target
	for k := range rep.Words {
		if r.at(i).has(flagDone) {
			break
		}
		a.word(r, i, &rep.Words[k])
	}
	a.finishIfDone(r)
}

// refuses says why a report is not taken, empty if it is. With the final word the winner's nonce is forgotten: whoever
// reports then is told that all is in the record.
func (a *applier) refuses(rep *saltpeter.Report) string {
	r, ok := a.s.runs.Get(rep.Ref.Run)
	if !ok || rep.Ref.Target >= r.size() {
		return reportUnknown
	}
	if t := r.at(rep.Ref.Target); !t.has(flagDone) && (t.nonce == nil || *t.nonce != rep.Nonce) {
		return reportStranger
	}
	return ""
}

func (a *applier) answer(rep *saltpeter.Report) saltpeter.ReportAnswer {
	ans := saltpeter.ReportAnswer{Ref: rep.Ref, Refused: a.refuses(rep)}
	if ans.Refused != "" {
		return ans
	}
	r, _ := a.s.runs.Get(rep.Ref.Run)
	t := r.at(rep.Ref.Target)
	ans.Next = t.nextSeq
	ans.Done = t.has(flagDone)
	ans.Started = t.started != 0
	ans.Kill = t.has(flagKilling)
	return ans
}

// word takes one word of the winner. What comes out of order is passed over: the answer names the number expected.
func (a *applier) word(r *run, i uint32, w *saltpeter.Word) {
	switch w.Kind {
	case saltpeter.WordStarted:
		a.started(r, i)
	case saltpeter.WordOutput, saltpeter.WordSkip:
		if a.inOrder(r, i, w) && takeable(w) {
			a.started(r, i)
			a.output(r, i, w)
		}
	case saltpeter.WordResult:
		if a.inOrder(r, i, w) {
			a.started(r, i)
			r.mutAt(i).nextSeq++
			a.witnessed(r, i, resultEnding(w))
		}
	case saltpeter.WordDeclined:
		a.declined(r, i, w)
	case saltpeter.WordRemark:
		r.mutAt(i).text = w.Text
		a.touch(r.Num)
	case saltpeter.WordSoftTimeout: // wrappers repeat it after a break
		if r.at(i).has(flagSoft) {
			return
		}
		r.mutAt(i).flags |= flagSoft
		a.targetEvent(r, i, saltpeter.Event{Type: saltpeter.EventSoftTimeout, Text: w.Text})
	}
}

// inOrder reports whether a numbered word is the next one.
func (a *applier) inOrder(r *run, i uint32, w *saltpeter.Word) bool {
	ref := saltpeter.TargetRef{Run: r.Num, Target: i}
	next := r.at(i).nextSeq
	if w.Seq > next {
		if a.gaps == nil {
			a.gaps = make(map[saltpeter.TargetRef]bool)
		}
		a.gaps[ref] = true
	}
	return w.Seq == next && !a.gaps[ref]
}

// started takes the word that the command runs. After a presumed outcome it means that the winner is back.
func (a *applier) started(r *run, i uint32) {
	t := r.at(i)
	switch {
	case t.state == saltpeter.Granted:
		t = a.move(r, i, saltpeter.Started)
		t.started = a.env.Millis
	case t.state.Final() && t.has(flagPresumed) && !t.has(flagBack):
		t = r.mutAt(i)
		if t.started == 0 {
			t.started = a.env.Millis
		}
		a.setBack(r, t, true)
	}
}

// What no honest wrapper exceeds. Numbers and counts stay so far below their types' limits that none can wrap.
const (
	maxSeq     = 1 << 62
	maxCovers  = 1 << 32
	maxSkipped = 1 << 50
)

// takeable reports whether a numbered piece of output is one that the store can hold.
func takeable(w *saltpeter.Word) bool {
	return w.Seq < maxSeq && w.Covers <= maxCovers && w.Skipped <= maxSkipped && len(w.Data) <= outlog.MaxData
}

// output stores a numbered piece of output. Beyond three times the job's limit, which an honest wrapper never reaches,
// bytes are only counted.
func (a *applier) output(r *run, i uint32, w *saltpeter.Word) {
	t := r.mutAt(i)
	f := outlog.Frame{Seq: w.Seq, Kind: outlog.Data, AtMillis: w.AtMillis, Data: w.Data}
	if w.Kind == saltpeter.WordSkip {
		// It stands for Covers numbers and is stored under the last of them.
		f = outlog.Frame{Seq: w.Seq + max(w.Covers, 1) - 1, Kind: outlog.Skip, AtMillis: w.AtMillis, Skipped: w.Skipped}
	} else if def := a.s.definition(r.Digest); def != nil && t.stored+uint64(len(w.Data)) > 3*uint64(def.job.OutputLimit) {
		f = outlog.Frame{Seq: w.Seq, Kind: outlog.Skip, AtMillis: w.AtMillis, Skipped: uint64(len(w.Data))}
	}
	a.out.appendOutput(outlog.Key{Run: r.storedAs(), Target: i}, f)
	t.stored += uint64(len(f.Data))
	a.s.output += uint64(len(f.Data))
	t.leftOut += f.Skipped
	t.nextSeq = f.Seq + 1
	a.changed.Words = append(a.changed.Words, saltpeter.TargetRef{Run: r.Num, Target: i})
}

func resultEnding(w *saltpeter.Word) ending {
	e := ending{text: w.Text, done: true,
		code: min(max(w.Code, math.MinInt32), math.MaxInt32), signal: min(max(w.Signal, 0), math.MaxUint8)}
	switch {
	case w.Cause == saltpeter.EndKill:
		e.state = saltpeter.Killed
	case w.Cause == saltpeter.EndTimeout:
		e.state = saltpeter.TimedOut
	case w.Code == 0:
		e.state = saltpeter.OK
	default:
		e.state = saltpeter.Failed
	}
	return e
}

// declined takes the winner's word that the command was not and will not be executed. It counts from Granted, and in the
// place of a presumed 253 of a target that never started.
func (a *applier) declined(r *run, i uint32, w *saltpeter.Word) {
	t := r.at(i)
	if t.started != 0 {
		return
	}
	e := ending{state: saltpeter.NotStarted, text: w.Text, done: true}
	if w.Cause == saltpeter.EndKill {
		e.state = saltpeter.Killed
	}
	a.witnessed(r, i, e)
}

// witnessed writes the winner's own outcome: the first, or in the place of a presumed one.
func (a *applier) witnessed(r *run, i uint32, e ending) {
	t := r.at(i)
	switch {
	case !t.state.Final():
		a.end(r, i, e)
	case t.has(flagPresumed):
		a.replace(r, i, e)
	}
}
