package wsgateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/wire"
)

// FuzzSession sends any messages on a session that won; the gateway must not fall, must not pass on a gap or a call that is
// too big (the record complains), and must leave nothing behind. The input is a list of messages: a byte that says how long
// it is, where the top bit means binary.
func FuzzSession(f *testing.F) {
	list := func(messages ...any) []byte {
		var b []byte
		for _, m := range messages {
			switch m := m.(type) {
			case string:
				b = append(append(b, byte(len(m))), m...)
			case wire.Frame:
				frame := wire.AppendFrame(nil, &m)
				b = append(append(b, 0x80|byte(len(frame))), frame...)
			}
		}
		return b
	}
	f.Add(list(wire.Frame{Kind: wire.FrameOutput, Seq: 1, Data: []byte("x")}, wire.Frame{Kind: wire.FrameOutput, Seq: 3, Data: []byte("y")}))
	f.Add(list(wire.Frame{Kind: wire.FrameSkip, Seq: 1, Covers: 7, Skipped: 9}, `{"type":"result","seq":8}`, `{"type":"beat","n":1}`))
	f.Add(list(`{"type":"start","ask":2}`, `{"type":"started"}`, `{"type":"declined","code":254}`, `{"type":"locked"}`))
	f.Add(list(`{"type":"resume","run":1,"run_num":7,"target":3,"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, `{"type":"hello"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			n := serve(t, oneTarget(t), nil)
			c := n.granted("a")
			for len(b) > 0 {
				kind, size := websocket.MessageText, min(int(b[0]&0x7f), len(b)-1)
				if b[0]&0x80 != 0 {
					kind = websocket.MessageBinary
				}
				if c.ws.Write(t.Context(), kind, b[1:1+size]) != nil {
					break
				}
				b = b[1+size:]
			}
			time.Sleep(time.Second)
			c.hangUp()
			time.Sleep(time.Minute)
			if s := n.g.Sessions(); s != (Stats{}) || n.g.batch.readyWords.Load() != 0 || !n.g.budget.TryAcquire(n.g.lim.QueuedBytes) {
				t.Fatalf("left behind: %+v", s)
			}
		})
	})
}
