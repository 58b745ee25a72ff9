package outlog

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// chain tells where in one segment the next frame of the same key is. The index in memory names extents only; where
// the frames of many keys are mixed finely, reading one key would mean reading them all, once for every key. So the
// segment is read once, whole, and what was learned is kept while it is among the last that were needed.
type chain struct {
	// mu lets one reader build while the others wait; it guards what follows.
	mu   sync.Mutex
	offs []uint32 // of all frames
	next []int32  // place in offs of the key's next frame; -1: none so far
	last map[Key]int32
	end  int64 // read up to here
}

// extend reads on to the view's end.
func (c *chain) extend(v *view) error {
	c.end = max(c.end, magicLen)
	if c.last == nil {
		c.last = make(map[Key]int32)
	}
	scan := newScanner(v, c.end, 4*chunk, nil)
	for {
		r, off, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.end = scan.off
		if r.isDrop() {
			continue
		}
		n := int32(len(c.offs))
		if prev, ok := c.last[r.key]; ok {
			c.next[prev] = n
		}
		c.last[r.key] = n
		c.offs = append(c.offs, uint32(off))
		c.next = append(c.next, -1)
	}
}

// after gives the offsets of the key's frames that follow the one at off, at most limit.
func (c *chain) after(v *view, off int64, limit int, sealed bool) ([]uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end < v.info.Bytes {
		if err := c.extend(v); err != nil {
			return nil, err
		}
		if sealed {
			c.last = nil
		}
	}
	i, ok := slices.BinarySearch(c.offs, uint32(off))
	if !ok {
		return nil, &CorruptError{Segment: v.info.No, Offset: off, Err: errFormat}
	}
	var l []uint32
	for n := c.next[i]; n >= 0 && len(l) < limit; n = c.next[n] {
		l = append(l, c.offs[n])
	}
	return l, nil
}

// chains keeps the chains of the segments that were needed last. Each takes 8 bytes a frame, and that of the head a
// few tens a key.
type chains struct {
	// mu guards what follows.
	mu   sync.Mutex
	list []*named // the last one is the newest
}

type named struct {
	chain
	name  string
	epoch uint64
}

const maxChains = 4

func (c *chains) get(name string, epoch uint64) *chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.list, func(n *named) bool { return n.name == name && n.epoch == epoch })
	n := &named{name: name, epoch: epoch}
	switch {
	case i >= 0:
		n = c.list[i]
		c.list = slices.Delete(c.list, i, i+1)
	case len(c.list) == maxChains:
		c.list = slices.Delete(c.list, 0, 1)
	}
	c.list = append(c.list, n)
	return &n.chain
}
