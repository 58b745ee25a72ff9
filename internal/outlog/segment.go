package outlog

import (
	"io"
	"slices"
	"sort"
)

// segment is one segment as the store holds it. Guarded by Store.mu.
type segment struct {
	SegmentInfo
	stats
	flushed int64 // bytes that are in the file; the rest is the store's tail (head only)
	synced  bool  // sealed, and the file and its index file are durable
	bad     error // what kept compaction from reading it
}

func (g *segment) missing() bool { return g.SegmentInfo.missing() }

// view is a segment's content at one moment, readable without a lock.
type view struct {
	info    SegmentInfo
	flushed int64
	tail    []byte // the bytes from flushed on
	head    bool   // more may come
	f       io.ReaderAt
}

// ReadAt reads as from a file of info.Bytes bytes.
func (v *view) ReadAt(p []byte, off int64) (int, error) {
	want := len(p)
	if left := max(v.info.Bytes-off, 0); int64(want) > left {
		p = p[:left]
	}
	n := 0
	if off < v.flushed {
		k, err := v.f.ReadAt(p[:min(int64(len(p)), v.flushed-off)], off)
		n += k
		if off+int64(k) < v.flushed && k < len(p) {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if n < len(p) {
		n += copy(p[n:], v.tail[off+int64(n)-v.flushed:])
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

// segments is a store's list, ascending; the last is the head.
type segments []*segment

func (l segments) head() *segment { return l[len(l)-1] }

// find gives the segment that begins with number no.
func (l segments) find(no uint64) *segment {
	i := sort.Search(len(l), func(i int) bool { return l[i].No >= no })
	if i == len(l) || l[i].No != no {
		return nil
	}
	return l[i]
}

func (l segments) same(i SegmentInfo) *segment {
	if g := l.find(i.No); g != nil && g.is(i) {
		return g
	}
	return nil
}

func (l segments) missing() bool { return slices.ContainsFunc(l, (*segment).missing) }

// within gives the bounds of the sealed segments that lie in from..to.
func (l segments) within(from, to uint64) (int, int) {
	sealed := l[:len(l)-1]
	i := sort.Search(len(sealed), func(i int) bool { return sealed[i].No >= from })
	j := i
	for j < len(sealed) && sealed[j].Last <= to {
		j++
	}
	return i, j
}
