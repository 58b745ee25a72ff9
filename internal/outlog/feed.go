package outlog

import "slices"

// Feed holds numbered records and drops the oldest segments beyond a limit. Manifest, Sync, Release, Restore and what
// concerns peers are those of a Store; so is who may call what.
type Feed struct{ s *Store }

// Bounds tell what a Feed holds.
type Bounds struct {
	First   uint64 // number of the oldest record; Next if there is none
	Next    uint64 // one above the newest; 1 at the start
	Dropped uint64 // records dropped since the beginning
}

// OpenFeed opens a feed as Open does a store.
func OpenFeed(fs FS, dir string, opts Options, m *Manifest) (*Feed, error) {
	s, err := Open(fs, dir, opts, m)
	if err != nil {
		return nil, err
	}
	return &Feed{s}, nil
}

// Append adds a record; one whose number isn't above the newest's is ignored. Then the oldest segments beyond limit bytes
// are dropped, never the newest. The limit may be another each time; it must be the same on all nodes.
func (f *Feed) Append(seq uint64, rec []byte, limit int64) error {
	if seq < f.Bounds().Next {
		return f.s.Failed()
	}
	if len(rec) > MaxData {
		return ErrTooLarge
	}
	if err := f.s.write(Key{}, Frame{Seq: seq, Kind: Data, Data: rec}); err != nil {
		return err
	}
	if f.s.noteRecord(seq) > limit {
		return f.s.trim(limit)
	}
	return nil
}

// Bounds tells the numbers of the records that are there. It is exact even while segments are missing.
func (f *Feed) Bounds() Bounds {
	f.s.mu.RLock()
	defer f.s.mu.RUnlock()
	b := Bounds{Next: 1, Dropped: f.s.dropped}
	for _, g := range slices.Backward(f.s.segs) {
		if g.Records > 0 {
			b.Next = g.LastSeq + 1
			break
		}
	}
	b.First = b.Next
	for _, g := range f.s.segs {
		if g.Records > 0 {
			b.First = g.FirstSeq
			break
		}
	}
	return b
}

// Read gives the records with numbers from from on, in order, as they are at the time of the call, until yield returns
// false. The bytes are valid during yield only. It begins with the oldest record if from was dropped. Errors are those
// of Store.Frames, without ErrNoOutput.
func (f *Feed) Read(from uint64, yield func(seq uint64, rec []byte) bool) error {
	b := f.Bounds()
	if from >= b.Next || b.First == b.Next {
		return nil
	}
	return f.s.Frames(Key{}, from, func(fr Frame) bool { return yield(fr.Seq, fr.Data) })
}

// noteRecord counts a record in the head and returns the bytes of all segments.
func (s *Store) noteRecord(seq uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segs.head()
	if g.Records == 0 {
		g.FirstSeq = seq
	}
	g.LastSeq = seq
	g.Records++
	return s.segs.bytes()
}

func (l segments) bytes() int64 {
	var n int64
	for _, g := range l {
		n += g.Bytes
	}
	return n
}

// trim retires the oldest segments until the rest is within the limit, but never the head.
func (s *Store) trim(limit int64) error {
	s.mu.Lock()
	n := 0
	for sum := s.segs.bytes(); sum > limit && n < len(s.segs)-1; n++ {
		sum -= s.segs[n].Bytes
		s.dropped += s.segs[n].Records
	}
	s.retired = append(s.retired, s.segs[:n]...)
	s.segs = slices.Clone(s.segs[n:])
	if s.complete {
		s.index.trim(Key{}, uint32(s.segs[0].No))
	}
	s.mu.Unlock()
	return s.reindex() // what was missing may be what was dropped
}

// trim forgets a key's extents in segments before seg.
func (x *index) trim(k Key, seg uint32) {
	e := x.find(k)
	if e == nil {
		return
	}
	o := x.spill(e)
	i := slices.IndexFunc(o.extents, func(ext extent) bool { return ext.seg >= seg })
	if i < 0 {
		i = len(o.extents)
	}
	for _, ext := range o.extents[:i] {
		delete(x.live, ext.seg)
	}
	o.extents = slices.Clone(o.extents[i:])
}

// Manifest is Store.Manifest.
func (f *Feed) Manifest() Manifest { return f.s.Manifest() }

// Sync is Store.Sync.
func (f *Feed) Sync(m Manifest) error { return f.s.Sync(m) }

// Release is Store.Release.
func (f *Feed) Release(m Manifest) error { return f.s.Release(m) }

// Restore is Store.Restore.
func (f *Feed) Restore(m Manifest) error { return f.s.Restore(m) }

// Segments gives what a peer needs: Segment, Missing, Supply.
func (f *Feed) Segments() Segments { return f.s }

// Failed is Store.Failed.
func (f *Feed) Failed() error { return f.s.Failed() }

// Usage is Store.Usage.
func (f *Feed) Usage() Usage { return f.s.Usage() }

// Close is Store.Close.
func (f *Feed) Close() error { return f.s.Close() }
