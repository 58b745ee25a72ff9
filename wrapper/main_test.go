package wrapper

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestMain plays the waiting child, and a taker of locks, when a test starts this binary as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case modeChild:
			os.Exit(child(childClock))
		case "take-lock":
			os.Exit(takeLockOnce(os.Args[2:]))
		}
	}
	code := m.Run()
	cleanBuilds()
	os.Exit(code)
}

// childClock is CLOCK_BOOTTIME, ahead by the milliseconds that a test gives as an argument.
func childClock() time.Duration {
	if len(os.Args) < 3 {
		return bootTime()
	}
	ms, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return bootTime()
	}
	return bootTime() + time.Duration(ms)*time.Millisecond
}

func quiet(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.DiscardHandler)
}
