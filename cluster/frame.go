package cluster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// MaxPayload is the largest payload of a Call and of its answer, in bytes.
const MaxPayload = 1 << 20

// frameType says what a frame on the link is.
type frameType uint8

const (
	frameRequest frameType = 1 + iota // for the leader's Handler
	frameBarrier                      // commit a barrier, answer its index
	framePeer                         // answer how far this node's log is
	frameCancel                       // the request with this id is no longer waited for
	frameAnswer                       // payload: status, then what it says
	framePing                         // keeps the link alive; answered with the same
	frameAsk                          // for this very node's PeerHandler, whether it leads or not
	frameApply                        // an application to be a member, for the leader
)

// frameHead is length (of what follows it), type, priority, kind, id.
const frameHead = 4 + 3 + 8

var errFrame = errors.New("malformed frame")

// frame is one message on the link.
type frame struct {
	typ     frameType
	prio    Priority
	kind    byte
	id      uint64
	payload []byte
	claim   *atomic.Int32 // the call that it belongs to: waiting → taken by the writer; nil = always written
}

func (f *frame) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(frameHead-4+len(f.payload)))
	dst = append(dst, byte(f.typ), byte(f.prio), f.kind)
	dst = binary.BigEndian.AppendUint64(dst, f.id)
	return append(dst, f.payload...)
}

// readFrame reads one frame. Its error is io.EOF only between frames; one that wraps errFrame is the peer's fault.
func readFrame(r *bufio.Reader) (*frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:4])
	if size < frameHead-4 || size > frameHead-4+MaxPayload+1 {
		return nil, fmt.Errorf("%w: length %d", errFrame, size)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return nil, noEOF(err)
	}
	f := &frame{typ: frameType(head[4]), prio: Priority(head[5]), kind: head[6], id: binary.BigEndian.Uint64(head[7:])}
	if f.typ == 0 || f.typ > frameApply || f.prio >= priorities {
		return nil, fmt.Errorf("%w: type %d, priority %d", errFrame, f.typ, f.prio)
	}
	f.payload = make([]byte, size-(frameHead-4))
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return nil, noEOF(err)
	}
	return f, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeChunk is how many bytes of frames are gathered for one write; an urgent frame waits for one write at most.
const writeChunk = 64 << 10

// outbox is what waits to be written on one connection, the most urgent first. Its length is bounded by the windows of
// those who fill it.
type outbox struct {
	wake chan struct{}

	mu     sync.Mutex // guards queues
	queues [priorities][]*frame
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) put(f *frame) {
	o.mu.Lock()
	o.queues[f.prio] = append(o.queues[f.prio], f)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// gather encodes waiting frames into buf up to the size of one write, without those whose callers have gone.
func (o *outbox) gather(buf []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	for prio := range o.queues {
		for len(o.queues[prio]) > 0 && len(buf) < writeChunk {
			f := o.queues[prio][0]
			o.queues[prio][0] = nil
			o.queues[prio] = o.queues[prio][1:]
			if f.claim == nil || f.claim.CompareAndSwap(waiting, taken) {
				buf = f.append(buf)
			}
		}
	}
	return buf
}

// Statuses: the first byte of an answer's payload.
const (
	statusOK byte = iota
	statusNotLeader
	statusUnknown
	statusClosed
	statusTooLarge
	statusHandler // an error of the Handler's own; its text follows
)

// encodeAnswer turns a handler's outcome into an answer's payload.
func encodeAnswer(answer []byte, err error) []byte {
	var notLeader *NotLeaderError
	switch {
	case err == nil && len(answer) > MaxPayload:
		return append([]byte{statusUnknown}, "answer too large"...)
	case err == nil:
		return append([]byte{statusOK}, answer...)
	case errors.Is(err, ErrUnknown):
		return append([]byte{statusUnknown}, cut(err.Error())...)
	case errors.As(err, &notLeader):
		return append([]byte{statusNotLeader}, notLeader.LeaderID+"\x00"+notLeader.LeaderAddr...)
	case errors.Is(err, ErrNotLeader):
		return []byte{statusNotLeader}
	case errors.Is(err, ErrClosed):
		return []byte{statusClosed}
	case errors.Is(err, ErrTooLarge):
		return append([]byte{statusTooLarge}, cut(err.Error())...)
	default:
		return append([]byte{statusHandler}, cut(err.Error())...)
	}
}

// cut bounds an error's text.
func cut(text string) string { return text[:min(len(text), 4096)] }

// decodeAnswer is encodeAnswer backwards.
func decodeAnswer(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, unknown(fmt.Errorf("%w: empty answer", errFrame))
	}
	body := payload[1:]
	switch payload[0] {
	case statusOK:
		return body, nil
	case statusNotLeader:
		return nil, decodeNotLeader(body)
	case statusClosed:
		return nil, ErrClosed
	case statusTooLarge:
		return nil, fmt.Errorf("%w, says the leader: %s", ErrTooLarge, body)
	case statusHandler:
		return nil, &HandlerError{Text: string(body)}
	default:
		return nil, fmt.Errorf("%w, says the leader: %s", ErrUnknown, body)
	}
}

func decodeNotLeader(body []byte) error {
	for i, b := range body {
		if b == 0 {
			return &NotLeaderError{LeaderID: string(body[:i]), LeaderAddr: string(body[i+1:])}
		}
	}
	return &NotLeaderError{}
}
