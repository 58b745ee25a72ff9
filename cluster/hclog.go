package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// quietFor is how long a message of Raft's is not repeated: a peer that is down gives several a second.
const quietFor = 10 * time.Second

// raftLogger writes Raft's messages to slog, one level lower than Raft gives them: what an operator must know is logged by
// this package, in its own words. Errors and warnings with the same words are written once in ten seconds.
type raftLogger struct {
	name string
	out  *slog.Logger
	args []any
	seen *seen
}

// seen is when each message was last written; messages are constants, so they are few.
type seen struct {
	mu   sync.Mutex // guards at and held
	at   map[string]time.Time
	held map[string]int
}

func newRaftLogger(out *slog.Logger) *raftLogger {
	return &raftLogger{out: out, seen: &seen{at: map[string]time.Time{}, held: map[string]int{}}}
}

// due says whether a message may be written now and how many were held back since it last was.
func (s *seen) due(msg string) (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at, known := s.at[msg]; known && now.Sub(at) < quietFor {
		s.held[msg]++
		return 0, false
	}
	held = s.held[msg]
	s.at[msg], s.held[msg] = now, 0
	return held, true
}

var quieter = map[hclog.Level]slog.Level{
	hclog.Error: slog.LevelWarn,
	hclog.Warn:  slog.LevelInfo,
	hclog.Info:  slog.LevelDebug,
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	to, ok := quieter[level]
	if !ok || !l.out.Enabled(context.Background(), to) {
		return
	}
	args = append(slices.Clone(l.args), args...)
	if to > slog.LevelDebug {
		held, due := l.seen.due(msg)
		if !due {
			return
		}
		if held > 0 {
			args = append(args, "repeated", held)
		}
	}
	if l.name != "" {
		msg = l.name + ": " + msg
	}
	l.out.Log(context.Background(), to, msg, plain(args)...)
}

// plain turns hclog's deferred formats into text and its "error" key into ours.
func plain(args []any) []any {
	for i, arg := range args {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		if i%2 == 0 && arg == "error" {
			args[i] = "err"
		}
	}
	return args
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return false }
func (l *raftLogger) IsDebug() bool { return false }
func (l *raftLogger) IsInfo() bool  { return l.out.Enabled(context.Background(), slog.LevelDebug) }
func (l *raftLogger) IsWarn() bool  { return l.out.Enabled(context.Background(), slog.LevelInfo) }
func (l *raftLogger) IsError() bool { return l.out.Enabled(context.Background(), slog.LevelWarn) }

func (l *raftLogger) ImpliedArgs() []any { return l.args }
func (l *raftLogger) Name() string       { return l.name }

func (l *raftLogger) With(args ...any) hclog.Logger {
	with := *l
	with.args = append(slices.Clone(l.args), args...)
	return &with
}

func (l *raftLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	named := *l
	named.name = name
	return &named
}

func (l *raftLogger) SetLevel(hclog.Level)  {}
func (l *raftLogger) GetLevel() hclog.Level { return hclog.Info }

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return slog.NewLogLogger(l.out.Handler(), slog.LevelInfo).Writer()
}
