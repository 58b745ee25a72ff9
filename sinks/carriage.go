package sinks

import (
	"bytes"
	"strings"
)

// maxSegment is how much of a line is kept in memory, in bytes. What is longer is read again when its line ends.
const maxSegment = 64 << 10

// lastSegments does to a whole text what carriage does to a stream: of each line it keeps what follows the last carriage
// return, or what stands before it where nothing follows.
func lastSegments(text string) string {
	if !strings.Contains(text, "\r") {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, "\r")
		lines[i] = line[strings.LastIndexByte(line, '\r')+1:]
	}
	return strings.Join(lines, "\n")
}

var newline = []byte{'\n'}

// segment is a stretch of a stream.
type segment struct {
	start, size int64
	mem         []byte // the bytes, if size is within the limit
}

func (s *segment) add(p []byte, at, limit int64) {
	if s.size == 0 {
		s.start, s.mem = at, s.mem[:0]
	}
	s.size += int64(len(p))
	if s.size <= limit {
		s.mem = append(s.mem, p...)
	}
}

// carriage keeps of each line of a stream the last segment between carriage returns that is not empty: what a terminal
// shows in the end. Memory is bounded whatever the lines' length; a segment too long for it is read again.
type carriage struct {
	out   func(p []byte) error
	again func(start, size int64) error // gives a stretch of the stream to out
	limit int64                         // maxSegment

	at        int64 // position in the stream
	last, cur segment
}

// reset begins a new stream.
func (c *carriage) reset() { c.at, c.last.size, c.cur.size = 0, 0, 0 }

// write takes the next bytes of the stream.
func (c *carriage) write(p []byte) error {
	if i := bytes.LastIndexByte(p, '\n'); i >= 0 && c.last.size == 0 && bytes.IndexByte(p[:i], '\r') < 0 {
		if err := c.lines(p[:i+1]); err != nil {
			return err
		}
		p = p[i+1:]
	}
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			c.add(p)
			return nil
		}
		c.add(p[:i])
		c.at++
		if p[i] == '\r' {
			c.turn()
		} else if err := c.endLine(); err != nil {
			return err
		}
		p = p[i+1:]
	}
	return nil
}

// lines takes whole lines without carriage returns, but for the part of the first that came before.
func (c *carriage) lines(p []byte) error {
	if err := c.end(); err != nil {
		return err
	}
	c.at += int64(len(p))
	return c.out(p)
}

func (c *carriage) add(p []byte) {
	if len(p) > 0 {
		c.cur.add(p, c.at, c.limit)
		c.at += int64(len(p))
	}
}

// turn takes a carriage return.
func (c *carriage) turn() {
	if c.cur.size > 0 {
		c.last, c.cur = c.cur, c.last
		c.cur.size = 0
	}
}

func (c *carriage) endLine() error {
	if err := c.end(); err != nil {
		return err
	}
	return c.out(newline)
}

// end gives out what is left of the line without its end.
func (c *carriage) end() error {
	c.turn()
	s := &c.last
	defer func() { s.size = 0 }()
	switch {
	case s.size == 0:
		return nil
	case s.size <= c.limit:
		return c.out(s.mem)
	default:
		return c.again(s.start, s.size)
	}
}
