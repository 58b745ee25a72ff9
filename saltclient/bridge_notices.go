package saltclient

import (
	"bufio"
	"io"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

const (
	// noticeLimit bounds one line of Salt in our log.
	noticeLimit = 2 << 10
	// noticeBurst is how many lines go into our log at once; then it is one a second.
	noticeBurst = 20
)

// notices passes on what Salt says beside its answers, at a bounded rate.
type notices struct {
	logger *slog.Logger
	limit  *rate.Limiter

	mu      sync.Mutex // guards below
	dropped int
}

func newNotices(l *slog.Logger) *notices {
	return &notices{logger: l, limit: rate.NewLimiter(1, noticeBurst)}
}

// follow logs lines until there are no more.
func (n *notices) follow(r io.Reader, master string) {
	lines := bufio.NewReaderSize(r, noticeLimit)
	for {
		line, long, err := lines.ReadLine()
		if err != nil {
			return
		}
		text := string(line)
		if long {
			text += "…"
		}
		n.say(master, text)
		for long && err == nil {
			_, long, err = lines.ReadLine()
		}
	}
}

// say logs one line.
func (n *notices) say(master, text string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	if len(text) > noticeLimit {
		text = text[:noticeLimit] + "…"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.limit.Allow() {
		n.dropped++
		return
	}
	log := n.logger.Info
	if strings.HasPrefix(text, "ERROR") || strings.HasPrefix(text, "CRITICAL") || strings.HasPrefix(text, "WARNING") {
		log = n.logger.Warn
	}
	log("salt says", "master", master, "text", text, "left_out", n.dropped)
	n.dropped = 0
}
