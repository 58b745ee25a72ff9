package vnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is how many bytes one direction of a connection holds before writes block.
const bufferSize = 256 << 10

// conn is one end of a connection.
type conn struct {
	network       *Network
	in, out       *pipe
	local, remote Addr
	once          sync.Once
}

func newConns(n *Network, p path, local, remote Addr) (near, far *conn) {
	there := newPipe(n, p)
	back := newPipe(n, path{p.to, p.from})
	near = &conn{network: n, in: back, out: there, local: local, remote: remote}
	far = &conn{network: n, in: there, out: back, local: remote, remote: local}
	return near, far
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	at, lost := c.network.arrival(c.out.path)
	if lost {
		c.reset()
		return 0, c.opError("write", syscall.ECONNRESET)
	}
	n, err := c.out.write(p, at)
	return n, c.opError("write", err)
}

func (c *conn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "vnet", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn. The other end reads what was sent, then the end.
func (c *conn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.once.Do(func() {
		err = nil
		at, _ := c.network.arrival(c.out.path)
		c.out.change(func(p *pipe) { p.ended, p.endAt, p.writerGone = true, at, true })
		c.in.change(func(p *pipe) { p.readerGone = true })
		c.network.forget(c)
	})
	return err
}

// reset breaks the connection: this end at once, the other when the news arrives there.
func (c *conn) reset() {
	at, _ := c.network.arrival(c.out.path)
	c.out.change(func(p *pipe) {
		if p.fault == nil {
			p.fault, p.faultAt = syscall.ECONNRESET, at
		}
		p.brokenWriter = true
	})
	c.in.change(func(p *pipe) { p.brokenReader = true })
	c.network.forget(c)
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(c.in, func(p *pipe) bool { p.readBy = t; return p.readerGone })
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(c.out, func(p *pipe) bool { p.writeBy = t; return p.writerGone })
}

func (c *conn) setDeadline(p *pipe, set func(*pipe) (gone bool)) error {
	gone := false
	p.change(func(p *pipe) { gone = set(p) })
	if gone {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// pipe is one direction of a connection.
type pipe struct {
	network *Network
	path    path

	mu                         sync.Mutex // guards what follows
	chunks                     []chunk
	size                       int
	ended                      bool // nothing follows the chunks
	endAt                      time.Time
	fault                      error // what the reader gets once the news arrives
	faultAt                    time.Time
	writerGone, readerGone     bool // closed by their own side
	brokenWriter, brokenReader bool // reset by their own side
	readBy, writeBy            time.Time
	changed                    chan struct{}
}

type chunk struct {
	data []byte
	at   time.Time // of its arrival
}

func newPipe(n *Network, p path) *pipe {
	return &pipe{network: n, path: p, changed: make(chan struct{})}
}

func (p *pipe) change(f func(*pipe)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) changedLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// read waits for bytes to arrive.
func (p *pipe) read(buf []byte) (int, error) {
	for {
		open, pathChanged := p.network.open(p.path)
		p.mu.Lock()
		n, next, err := p.tryRead(buf, open)
		pipeChanged, by := p.changed, p.readBy
		p.mu.Unlock()
		if n > 0 || err != nil || len(buf) == 0 {
			return n, err
		}
		if err := wait(by, next, pathChanged, pipeChanged); err != nil {
			return 0, err
		}
	}
}

// tryRead takes what has arrived. next is when something will have, if that is known.
func (p *pipe) tryRead(buf []byte, open bool) (n int, next time.Time, err error) {
	now := time.Now()
	switch {
	case p.readerGone:
		return 0, next, net.ErrClosed
	case p.brokenReader:
		return 0, next, syscall.ECONNRESET
	case !p.readBy.IsZero() && !now.Before(p.readBy):
		return 0, next, os.ErrDeadlineExceeded
	case !open:
		return 0, next, nil
	case p.fault != nil && !now.Before(p.faultAt):
		return 0, next, p.fault
	case len(p.chunks) > 0 && !now.Before(p.chunks[0].at):
		return p.takeLocked(buf, now), next, nil
	case len(p.chunks) == 0 && p.ended && !now.Before(p.endAt):
		return 0, next, io.EOF
	}
	for _, at := range []time.Time{p.faultAt, p.endAt, p.headAt()} {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return 0, next, nil
}

func (p *pipe) headAt() time.Time {
	if len(p.chunks) == 0 {
		return time.Time{}
	}
	return p.chunks[0].at
}

func (p *pipe) takeLocked(buf []byte, now time.Time) int {
	n := 0
	for len(p.chunks) > 0 && n < len(buf) && !now.Before(p.chunks[0].at) {
		k := copy(buf[n:], p.chunks[0].data)
		n += k
		if p.chunks[0].data = p.chunks[0].data[k:]; len(p.chunks[0].data) == 0 {
			p.chunks = p.chunks[1:]
		}
	}
	p.size -= n
	p.changedLocked()
	return n
}

// write puts bytes on their way; it waits while the buffer is full.
func (p *pipe) write(data []byte, at time.Time) (int, error) {
	written := 0
	for {
		heard, pathChanged := p.network.open(path{p.path.to, p.path.from})
		p.mu.Lock()
		n, err := p.tryWrite(data[written:], at, heard)
		changed, by := p.changed, p.writeBy
		p.mu.Unlock()
		written += n
		if err != nil || written == len(data) {
			return written, err
		}
		if err := wait(by, time.Time{}, pathChanged, changed); err != nil {
			return written, err
		}
	}
}

// tryWrite takes what there is room for. heard says whether this side could have learned that the other is gone.
func (p *pipe) tryWrite(data []byte, at time.Time, heard bool) (int, error) {
	switch {
	case p.writerGone:
		return 0, net.ErrClosed
	case p.brokenWriter:
		return 0, syscall.ECONNRESET
	case heard && (p.readerGone || p.brokenReader):
		return 0, syscall.EPIPE
	case !p.writeBy.IsZero() && !time.Now().Before(p.writeBy):
		return 0, os.ErrDeadlineExceeded
	}
	n := min(len(data), bufferSize-p.size)
	if n == 0 {
		return 0, nil
	}
	if last := len(p.chunks) - 1; last >= 0 && at.Before(p.chunks[last].at) {
		at = p.chunks[last].at
	}
	p.chunks = append(p.chunks, chunk{data: append([]byte(nil), data[:n]...), at: at})
	p.size += n
	p.changedLocked()
	return n, nil
}

// wait returns when something may have changed, or with the deadline's error.
func wait(by, next time.Time, a, b <-chan struct{}) error {
	until := next
	if !by.IsZero() && (until.IsZero() || by.Before(until)) {
		until = by
	}
	var over <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-a:
	case <-b:
	case <-over:
		if !by.IsZero() && !time.Now().Before(by) {
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}
