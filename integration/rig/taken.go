package rig

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// robbery is a file with output that was taken from all nodes. What it held is told by the bytes alone: commands write output
// that nobody else writes, and it lies there as it was written, in pieces of at least probe bytes.
type robbery struct {
	at    time.Time
	file  []byte
	where map[uint64]int // of each run of probe bytes
}

// probe is how many bytes of output are enough to know them by.
const probe = 8

// Rob notes that a file with output is taken from all nodes.
func (h *History) Rob(file []byte) {
	r := &robbery{at: time.Now(), file: file, where: make(map[uint64]int, len(file))}
	for i := range max(0, len(file)-probe+1) {
		r.where[binary.LittleEndian.Uint64(file[i:])] = i
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.robberies = append(h.robberies, r)
}

// Robbed reports whether output was taken from all nodes.
func (h *History) Robbed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.robberies) > 0
}

// had counts how many bytes of an output the file held.
func (r *robbery) had(out []byte) (n int) {
	for i := 0; i+probe <= len(out); {
		at, ok := r.where[binary.LittleEndian.Uint64(out[i:])]
		if !ok {
			i++
			continue
		}
		k := commonPrefix(r.file[at:], out[i:])
		n, i = n+k, i+k
	}
	return n
}

// taken counts how many bytes of a machine's output were taken from all nodes.
func (e *Evidence) taken(r *Run, k Key, size int) (n int) {
	for _, x := range e.history.robberies {
		if !r.Claimed.After(x.at) {
			n += x.had(Output(k.Instance, k.Machine, size))
		}
	}
	return n
}

// collectGaps reads what is told of the output that was taken.
func (c *Cluster) collectGaps(ctx context.Context, e *Evidence) error {
	if len(e.history.robberies) == 0 {
		return nil
	}
	sizes := make(map[string]int)
	for _, j := range e.jobs {
		sizes[j.Name] = j.Bytes
	}
	e.takenOf, e.gaps = make(map[Key]int), make(map[Key]int)
	for i := range e.runs {
		r := &e.runs[i]
		for _, t := range e.Targets[r.ID] {
			k := Key{r.ID, t.Machine}
			if n := e.taken(r, k, sizes[r.Job]); n > 0 {
				e.takenOf[k] = n
				var err error
				if e.gaps[k], err = c.gapsOf(ctx, k); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gapsOf adds up how many bytes of an output are said to be lacking.
func (c *Cluster) gapsOf(ctx context.Context, k Key) (n int, err error) {
	var piece struct {
		Gaps []struct {
			Bytes int `json:"bytes"`
		} `json:"gaps"`
	}
	b, err := c.do(ctx, http.MethodGet, "/runs/"+url.PathEscape(k.Instance)+"/machines/"+k.Machine+"/output?limit=1", nil, nil)
	if err == nil {
		err = json.Unmarshal(b, &piece)
	}
	if err != nil {
		return 0, fmt.Errorf("read the gaps of %s on %s: %w", k.Instance, k.Machine, err)
	}
	for _, g := range piece.Gaps {
		n += g.Bytes
	}
	return n, nil
}
