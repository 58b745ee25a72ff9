package outlog

import "errors"

// Lose gives up segments that no node has: they become empty, whatever of them is here, and reads work again once nothing else is
// missing. It is called from a replicated command: all nodes end with the same list. Segments that are not on the list in that
// generation are passed over. What drop frames in them had ended comes back to the index; nobody reads or counts it.
func (s *Store) Lose(lost []SegmentInfo) error {
	if err := s.Failed(); err != nil {
		return err
	}
	for _, info := range lost {
		if err := s.seal(info); err != nil {
			return err
		}
		s.replaceByNone(info)
	}
	return s.indexAnew()
}

// seal begins a new head if info is the head: a head can't be empty.
func (s *Store) seal(info SegmentInfo) error {
	s.mu.RLock()
	is := s.segs.head().is(info)
	s.mu.RUnlock()
	if !is {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.begin(info.No + 1)
}

func (s *Store) replaceByNone(info SegmentInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range s.segs {
		if !g.is(info) {
			continue
		}
		s.segs = append(segments{}, s.segs...) // readers and Supply hold the old list
		s.segs[i] = &segment{SegmentInfo: SegmentInfo{No: g.No, Last: g.Last, Gen: g.Gen + 1}, stats: noStats()}
		s.retired = append(s.retired, g)
		s.newFiles, s.complete, s.index = true, false, nil
		return
	}
}

// Lose gives up segments that no node has, and all older ones: a feed has no holes. The records that go are counted as dropped.
// At least one record must be appended after it, from which the numbers go on.
func (f *Feed) Lose(lost []SegmentInfo) error {
	s := f.s
	if err := s.Failed(); err != nil {
		return err
	}
	var upTo uint64
	for _, info := range lost {
		if err := s.seal(info); err != nil {
			return err
		}
		s.mu.RLock()
		if s.segs.same(info) != nil {
			upTo = max(upTo, info.Last)
		}
		s.mu.RUnlock()
	}
	s.mu.Lock()
	n := 0
	for ; n < len(s.segs)-1 && s.segs[n].Last <= upTo; n++ {
		s.dropped += s.segs[n].Records
	}
	if n > 0 {
		s.retired = append(s.retired, s.segs[:n]...)
		s.segs = append(segments{}, s.segs[n:]...)
		s.complete, s.index = false, nil
	}
	s.mu.Unlock()
	return s.indexAnew()
}

// indexAnew is reindex for the writer: another segment that turns out to be damaged is missing from then on, and no failure.
func (s *Store) indexAnew() error {
	if err := s.reindex(); err != nil && !errors.Is(err, ErrMismatch) {
		return err
	}
	return nil
}
