package outlog

import (
	"errors"
	"sync"
	"testing"
)

// A Restore may take away the files of a manifest that is being synced. That is no fault of the disk: the store goes on.
func TestRestoreBesideSync(t *testing.T) {
	from := open(t, NewLossy(1), dir, testOpts, nil)
	grow(t, from, 6, 60, Key{1, 1}, Key{1, 2})
	there := viaCBOR(t, from.Manifest())
	for round := range 30 {
		opts := testOpts
		opts.Origin = "b"
		s := open(t, NewLossy(uint64(round)), dir, opts, nil)
		grow(t, s, 4, 50, Key{2, 1})
		mine := s.Manifest()
		var g sync.WaitGroup
		g.Go(func() {
			if err := s.Sync(mine); err != nil && !errors.Is(err, ErrStale) {
				t.Errorf("sync beside a restore: %v", err)
			}
		})
		must(t, s.Restore(there))
		g.Wait()
		mustBe(t, s.Sync(mine), ErrStale)
		must(t, s.Failed())
		must(t, s.Sync(s.Manifest()))
	}
}
