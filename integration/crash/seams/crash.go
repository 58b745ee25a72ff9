//go:build crashpoints

package seams

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// markDescriptor is one that no process has.
const markDescriptor = 1 << 20

// replyDelay is how long after a handler returned its answer counts as written.
const replyDelay = 2 * time.Millisecond

// crash holds the one point that is set.
type crash struct {
	log, arm string
	marks    bool
	rearm    chan os.Signal

	mu     sync.Mutex // guards what follows
	name   string
	at     int
	signal syscall.Signal
	hits   int
	marked uint64
}

func newCrash(getenv func(string) string) (*crash, error) {
	c := &crash{log: getenv("SP_CRASHLOG"), arm: getenv("SP_CRASHARM"), marks: getenv("SP_CRASHMARKS") != "", rearm: make(chan os.Signal, 1)}
	if c.arm != "" {
		signal.Notify(c.rearm, syscall.SIGUSR1)
	}
	if setting := getenv("SP_CRASHPOINT"); setting != "" {
		return c, c.set(setting)
	}
	return c, nil
}

// set takes a setting; an empty one sets no point.
func (c *crash) set(setting string) error {
	c.name, c.at, c.hits = "", 1, 0
	if setting == "" {
		return nil
	}
	parts := strings.Split(setting, ":")
	switch parts[len(parts)-1] {
	case "kill":
		c.signal = syscall.SIGKILL
	case "stop":
		c.signal = syscall.SIGSTOP
	default:
		return fmt.Errorf("set crash point %q: want name[:n]:kill or name[:n]:stop", setting)
	}
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			return fmt.Errorf("set crash point %q: %w", setting, err)
		}
		c.at = n
	}
	c.name = parts[0]
	return nil
}

// hit acts if this is the set point's turn.
func (c *crash) hit(name string) {
	if c.marks {
		c.mark(name)
	}
	c.mu.Lock()
	select {
	case <-c.rearm:
		c.reload()
	default:
	}
	if name != c.name {
		c.mu.Unlock()
		return
	}
	c.hits++
	if c.hits != c.at {
		c.mu.Unlock()
		return
	}
	c.record()
	sig := c.signal
	c.mu.Unlock()
	_ = syscall.Kill(os.Getpid(), sig)
	if sig == syscall.SIGKILL {
		select {} // the signal is on its way: go no further
	}
}

// reload reads the setting that the harness has written. One that can't be read is a point with no hit, which it sees.
func (c *crash) reload() {
	b, err := os.ReadFile(c.arm)
	if err == nil {
		err = c.set(strings.TrimSpace(string(b)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash point:", err)
	}
}

// record says that the point is hit, for good: the process may be gone in the next instant.
func (c *crash) record() {
	f, err := os.OpenFile(c.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	action := map[syscall.Signal]string{syscall.SIGKILL: "kill", syscall.SIGSTOP: "stop"}[c.signal]
	fmt.Fprintf(f, "%s %d %s %d\n", c.name, c.at, action, os.Getpid())
	_ = f.Sync()
}

// mark writes into the trace.
func (c *crash) mark(text string) {
	if c.marks {
		_, _ = syscall.Write(markDescriptor, []byte("SPMARK "+text))
	}
}

// number gives a new number for marks that belong together.
func (c *crash) number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked++
	return c.marked
}
