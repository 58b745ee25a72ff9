package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func logTo(out *bytes.Buffer, level slog.Level) hclog.Logger {
	return newRaftLogger(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
}

func TestRaftsMessagesAreQuieterAndInOurWords(t *testing.T) {
	var out bytes.Buffer
	l := logTo(&out, slog.LevelDebug)
	l.Error("store it", "error", "no space", "servers", hclog.Fmt("%+v", []int{1, 2}))
	l.Warn("slow")
	l.Info("chatter")
	l.Debug("never")
	l.Named("transport").With("peer", "b").Info("dialed")
	want := `level=WARN msg="store it" err="no space" servers="[1 2]"
level=INFO msg=slow
level=DEBUG msg=chatter
level=DEBUG msg="transport: dialed" peer=b
`
	if out.String() != want {
		t.Fatalf("log:\n%swant:\n%s", out.String(), want)
	}
}

func TestRepeatedMessagesAreHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		l := logTo(&out, slog.LevelInfo)
		for range 50 {
			l.Named("transport").Error("peer is down")
			time.Sleep(500 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[1], "repeated=19") {
			t.Fatalf("25 s of a message every 0.5 s:\n%s", out.String())
		}
	})
}
