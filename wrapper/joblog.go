package wrapper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/filename"
	"github.com/syscollective/saltpeter/internal/wire"
)

// The log levels at which a wrapper writes nothing into the job's log.
var silentLevels = map[string]bool{"off": true, "none": true, "quiet": true}

// jobLog is the wrapper's log of one job, {logdir}/{job}.log, in the Python program's format. It is opened for each record, so that
// it may be rotated at any time. A nil jobLog writes nothing. Unlike that program's it has no commands, which may hold secrets.
type jobLog struct {
	path string
	run  string
	open bool // the output's first line was written
}

// newJobLog gives the log that the spec asks for, nil for none.
func newJobLog(spec *saltpeter.Spec) *jobLog {
	if spec.LogDir == "" || silentLevels[spec.LogLevel] {
		return nil
	}
	return &jobLog{path: filepath.Join(spec.LogDir, filename.Of(spec.Job)+".log"), run: spec.Run}
}

// write appends one record.
func (l *jobLog) write(text string) error {
	if l == nil {
		return nil
	}
	return l.append(fmt.Appendf(nil, "%s [%s] %s\n", time.Now().UTC().Format(time.DateTime), l.run, text))
}

func (l *jobLog) append(b []byte) error {
	if l == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("write wrapper log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("write wrapper log: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write wrapper log: %w", err)
	}
	return nil
}

// ended records how the command ended.
func (l *jobLog) ended(n news, timeout time.Duration) error {
	switch {
	case n.cause == causeTimeout:
		return l.write(fmt.Sprintf("Job completed: TIMEOUT (killed after %ds, exit code: %d)", int(timeout.Seconds()), n.code))
	case n.cause == causeKill:
		return l.write(fmt.Sprintf("Job completed: KILLED (exit code: %d)", n.code))
	case n.code == 0:
		return l.write("Job completed: SUCCESS")
	}
	return l.write(fmt.Sprintf("Job completed: FAILED (exit code: %d)", n.code))
}

// output appends a frame of output, below a line that begins it.
func (l *jobLog) output(f wire.Frame) error {
	if l == nil {
		return nil
	}
	var b []byte
	if !l.open {
		b = append(b, "--- OUTPUT START ---\n"...)
	}
	if f.Kind == wire.FrameSkip {
		b = fmt.Appendf(b, "\n[%d bytes left out]\n", f.Skipped)
	}
	b = append(b, f.Data...)
	err := l.append(b)
	l.open = l.open || err == nil
	return err
}

// close ends the output, if there was any.
func (l *jobLog) close() error {
	if l == nil || !l.open {
		return nil
	}
	l.open = false
	return l.append([]byte("\n--- OUTPUT END ---\n"))
}

// toOwnLog moves the frames that nobody else takes into the job's log.
func (s *Session) toOwnLog(t *target) {
	for t.out.acked < t.out.store.next {
		f, after, err := t.out.frame(t.out.acked)
		if err != nil {
			s.log.Warn("output is lost", "run", t.entry.Run, "err", err)
		}
		if err := t.log.output(f); err != nil {
			s.log.Warn("output of a run that the cluster does not know is lost", "run", t.entry.Run, "err", err)
		}
		t.out.ack(after)
	}
}

// closeOwn puts the rest of the output of a run whose words nobody takes into the job's log.
func (s *Session) closeOwn(t *target) {
	s.toOwnLog(t)
	if err := t.log.close(); err != nil {
		s.log.Warn("end of output is not in the log", "run", t.entry.Run, "err", err)
	}
}
