package cluster

import (
	"sync"

	"github.com/hashicorp/raft"
)

// cacheBytes bounds the log cache. Raft's own counts entries: 512 of 256 KiB would be 128 MiB.
const cacheBytes = 8 << 20

// logCache keeps the newest entries without gaps, up to a number of bytes: what followers are sent and the leader applies
// has mostly just been written.
type logCache struct {
	limit int

	mu    sync.Mutex // guards what follows
	first uint64     // index of entries[0]
	logs  []raft.Log
	bytes int
}

func newLogCache(limit int) *logCache { return &logCache{limit: limit} }

func (c *logCache) get(index uint64, log *raft.Log) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index < c.first || index-c.first >= uint64(len(c.logs)) {
		return false
	}
	*log = c.logs[index-c.first]
	return true
}

// put adds entries that are stored. One that does not follow the newest begins the cache anew; one that is there already
// replaces it and all after it.
func (c *logCache) put(logs []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range logs {
		next := c.first + uint64(len(c.logs))
		switch {
		case len(c.logs) == 0 || log.Index > next || log.Index < c.first:
			c.resetLocked(log.Index)
		case log.Index < next:
			c.cutLocked(log.Index)
		}
		c.logs = append(c.logs, *log)
		c.bytes += size(log)
	}
	n := 0
	for ; c.bytes > c.limit && n < len(c.logs); n++ {
		c.bytes -= size(&c.logs[n])
	}
	c.shiftLocked(n)
}

// drop forgets a range, and whatever would lie apart from the rest without it.
func (c *logCache) drop(first, last uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.first + uint64(len(c.logs))
	switch {
	case len(c.logs) == 0 || last < c.first || first >= end:
	case first > c.first:
		c.cutLocked(first)
	case last+1 >= end:
		c.resetLocked(0)
	default:
		n := int(last + 1 - c.first)
		for i := range n {
			c.bytes -= size(&c.logs[i])
		}
		c.shiftLocked(n)
	}
}

func (c *logCache) resetLocked(first uint64) {
	clear(c.logs)
	c.first, c.logs, c.bytes = first, c.logs[:0], 0
}

// cutLocked forgets the entries from index on.
func (c *logCache) cutLocked(index uint64) {
	n := int(index - c.first)
	for i := n; i < len(c.logs); i++ {
		c.bytes -= size(&c.logs[i])
	}
	clear(c.logs[n:])
	c.logs = c.logs[:n]
}

// shiftLocked forgets the first n entries. The slice's head is given up with them; append moves the rest when it grows.
func (c *logCache) shiftLocked(n int) {
	clear(c.logs[:n])
	c.logs = c.logs[n:]
	c.first += uint64(n)
}

// size is what an entry counts: its bytes and about what a raft.Log takes itself.
func size(log *raft.Log) int { return len(log.Data) + len(log.Extensions) + 128 }
