package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// WriteBackup writes the record as it is at the call to w, with the output if about.Output says so. It fills in what about
// says of the record. Output that retention drops meanwhile is left out. Errors: outlog.ErrNotHere if this node lacks
// segments of output, ErrHalted, and w's own.
func (m *Machine) WriteBackup(w io.Writer, about backup.About) (backup.Totals, error) {
	m.mu.Lock()
	s, store, halted := m.state.freeze(), m.output, m.halted
	m.mu.Unlock()
	if halted != nil {
		return backup.Totals{}, halted
	}
	s.restoring = nil // it is no part of the record
	about.Cluster, about.Epoch, about.Index = s.clusterID, s.epoch, s.index
	about.Jobs, about.Runs, about.Targets = len(s.revision.Jobs), s.runs.Len(), s.targets
	out := backup.NewWriter(w, about)
	if about.Output && store != nil {
		if err := writeOutput(out, s, store); err != nil {
			return backup.Totals{}, err
		}
	}
	if err := (&snapshot{state: s}).write(out); err != nil {
		return backup.Totals{}, err
	}
	return out.Close()
}

// writeOutput writes the output of all targets of a state.
func writeOutput(w *backup.Writer, s *state, store *outlog.Store) (err error) {
	if len(store.Missing()) > 0 {
		return outlog.ErrNotHere
	}
	s.runs.Scan(func(_ uint64, r *run) bool {
		for i := range r.size() {
			if err = writeTarget(w, r, i, store); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

func writeTarget(w *backup.Writer, r *run, i uint32, store *outlog.Store) error {
	t := r.at(i)
	if t.stored == 0 && t.leftOut == 0 {
		return nil
	}
	var failed error
	err := store.Frames(outlog.Key{Run: r.storedAs(), Target: i}, 0, func(f outlog.Frame) bool {
		if f.Seq >= t.nextSeq { // it came after the state that is written
			return false
		}
		failed = w.Frame(backup.Frame{Run: r.Num, Target: i, Seq: f.Seq, AtMillis: f.AtMillis, Skip: f.Kind == outlog.Skip, Skipped: f.Skipped, Data: f.Data})
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err != nil && !errors.Is(err, outlog.ErrNoOutput) {
		return fmt.Errorf("read output of run %d: %w", r.Num, err)
	}
	return nil
}

// CheckBackup reads the record of a backup as Restore will, and says what is wrong with it.
func CheckBackup(chunks [][]byte) error {
	_, err := readChunks(chunks)
	return err
}

func readChunks(chunks [][]byte) (*state, error) {
	readers := make([]io.Reader, len(chunks))
	for i, chunk := range chunks {
		readers[i] = bytes.NewReader(chunk)
	}
	s, _, err := readSnapshot(io.MultiReader(readers...))
	return s, err
}
