package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

// Sizes of output, in bytes.
const (
	outputChunk   = 64 << 10 // read and written at a time
	outputJSON    = 64 << 10 // default of a piece in JSON
	maxOutputJSON = 1 << 20
)

// streamWrite is how long a client may take to read one chunk of a stream.
const streamWrite = 30 * time.Second

// OutputPiece is a piece of a machine's output in JSON.
type OutputPiece struct {
	Run      string `json:"run"`
	Machine  string `json:"machine"`
	Offset   int64  `json:"offset"`
	Next     int64  `json:"next_offset"`
	Size     int64  `json:"size"` // stored by now
	Final    bool   `json:"final"`
	LeftOut  uint64 `json:"left_out"` // bytes beyond output_limit
	Gaps     []Gap  `json:"gaps"`
	Encoding string `json:"encoding"` // of Data: "utf-8", or "base64" where the bytes are not UTF-8
	Data     string `json:"data"`
}

// getOutput gives the output of one machine: its exact bytes (format=raw, and always with follow), a piece of it in JSON, or
// pieces as server-sent events until it is final (format=sse).
func (c *call) getOutput() error {
	format, err := c.params.word("format", "json", "raw", "sse")
	if err != nil {
		return err
	}
	follow, err := c.params.flag("follow")
	if err != nil {
		return err
	}
	if _, given := c.params["format"]; follow && given && format == "json" {
		return badParam("format", format, "raw or sse, which follow needs")
	}
	offset, err := c.params.number("offset", 0, 0, 1<<62)
	if err != nil {
		return err
	}
	limit, err := c.params.number("limit", -1, 1, 1<<62)
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	r, t, err := c.target(v)
	if err != nil {
		return err
	}
	out, err := c.s.node.Output(c.r.Context(), t.Ref)
	if err != nil {
		return err
	}
	switch {
	case format == "sse":
		return c.outputEvents(r, &t, out, offset)
	case follow:
		return c.followOutput(out, offset, limit)
	case format == "raw":
		return c.rawOutput(out, offset, limit)
	default:
		return c.jsonOutput(r, &t, out, offset, limit)
	}
}

func (c *call) jsonOutput(r *saltpeter.Run, t *saltpeter.Target, out Output, offset, limit int64) error {
	if limit < 0 {
		limit = outputJSON
	}
	piece, err := pieceOf(r, t, out, offset, min(limit, maxOutputJSON))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, piece)
}

// pieceOf reads up to limit bytes from offset on.
func pieceOf(r *saltpeter.Run, t *saltpeter.Target, out Output, offset, limit int64) (OutputPiece, error) {
	final, size := out.Final(), out.Size()
	p := make([]byte, max(min(limit, size-offset), 0))
	n, err := out.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return OutputPiece{}, fmt.Errorf("read output: %w", err)
	}
	p = p[:n]
	piece := OutputPiece{
		Run: r.ID, Machine: t.Machine, Offset: offset, Next: offset + int64(n), Size: size, Final: final,
		LeftOut: t.LeftOut, Gaps: append([]Gap{}, out.Gaps()...), Encoding: "utf-8", Data: string(p),
	}
	if !utf8.Valid(p) {
		piece.Encoding, piece.Data = "base64", base64.StdEncoding.EncodeToString(p)
	}
	return piece, nil
}

// outputEvents sends pieces as events "output", whose ids are offsets, and an event "end" when the output is final. A client
// that was cut off goes on from Last-Event-ID, on this node or another.
func (c *call) outputEvents(r *saltpeter.Run, t *saltpeter.Target, out Output, offset int64) error {
	if last := c.r.Header.Get("Last-Event-ID"); last != "" {
		var err error
		if offset, err = strconv.ParseInt(last, 10, 64); err != nil || offset < 0 {
			return badParam("header Last-Event-ID", last, "an offset, as the ids of this stream are")
		}
	}
	release, err := c.stream()
	if err != nil {
		return err
	}
	defer release()
	s := startEvents(c)
	for c.r.Method != http.MethodHead {
		more, final := out.More(), out.Final()
		piece, err := pieceOf(r, t, out, offset, outputChunk)
		if err != nil {
			c.s.log.Error("read output", "request", c.by.Request, "err", err)
			return nil
		}
		offset = piece.Next
		id := strconv.FormatInt(offset, 10)
		if piece.Data != "" {
			s.put("output", id, piece)
		}
		ended := final && piece.Data == ""
		if ended {
			s.put("end", id, piece)
		}
		if !s.flush() || ended || piece.Data == "" && !s.pause(more) {
			return nil
		}
	}
	return nil
}

// rawOutput gives what is stored by now. Its length is announced, so that a client sees when it is cut off.
func (c *call) rawOutput(out Output, offset, limit int64) error {
	final, size := out.Final(), out.Size()
	length := max(size-offset, 0)
	if limit >= 0 {
		length = min(length, limit)
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	h.Set("X-Saltpeter-Output-Size", strconv.FormatInt(size, 10))
	h.Set("X-Saltpeter-Output-Final", strconv.FormatBool(final))
	if c.r.Method == http.MethodHead {
		return nil
	}
	c.copyOutput(out, offset, length, make([]byte, min(length, outputChunk)))
	return nil
}

// copyOutput sends up to length bytes, as many as are stored, and gives the offset that it came to. An error can't be told any more once bytes are
// on their way: the answer stays shorter than announced.
func (c *call) copyOutput(out Output, offset, length int64, buf []byte) (int64, bool) {
	rc := http.NewResponseController(c.w)
	for length > 0 {
		n, err := out.ReadAt(buf[:min(length, int64(len(buf)))], offset)
		if n > 0 {
			if !c.send(rc, buf[:n]) {
				return offset, false
			}
			offset, length = offset+int64(n), length-int64(n)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			c.s.log.Error("read output", "request", c.by.Request, "err", err)
			return offset, false
		}
		if n == 0 {
			return offset, true
		}
	}
	return offset, true
}

// send writes one chunk of a stream, with time of its own.
func (c *call) send(rc *http.ResponseController, p []byte) bool {
	err := ignoreUnsupported(rc.SetWriteDeadline(time.Now().Add(streamWrite)))
	if err == nil {
		_, err = c.w.Write(p)
	}
	if err != nil {
		c.s.log.Debug("client is gone", "request", c.by.Request, "err", err)
	}
	return err == nil
}

// followOutput sends output until the machine has its outcome. The trailer X-Saltpeter-Output-Final says "true" when
// that is why it ended: without it a client goes on from its offset, on this node or another.
func (c *call) followOutput(out Output, offset, limit int64) error {
	release, err := c.stream()
	if err != nil {
		return err
	}
	defer release()
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Trailer", "X-Saltpeter-Output-Final")
	h.Set("X-Accel-Buffering", "no") // proxies in front must not hold it back
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	end := int64(1<<63 - 1)
	if limit >= 0 && limit < end-offset {
		end = offset + limit
	}
	h.Set("X-Saltpeter-Output-Final", strconv.FormatBool(c.pump(out, offset, end)))
	c.lastWrite()
	return nil
}

// pump sends output up to end as it comes, and reports whether all of it was sent.
func (c *call) pump(out Output, offset, end int64) bool {
	rc, buf := http.NewResponseController(c.w), make([]byte, outputChunk)
	for {
		// Both are asked for before reading: what comes in between is then seen in the next round.
		more, final := out.More(), out.Final()
		var ok bool
		if offset, ok = c.copyOutput(out, offset, end-offset, buf); !ok {
			return false
		}
		if err := rc.Flush(); err != nil {
			return false
		}
		if final || offset >= end {
			return true
		}
		select {
		case <-more:
		case <-c.r.Context().Done():
			return false
		case <-c.stopping():
			return false
		}
		if c.ended() {
			return false
		}
	}
}
