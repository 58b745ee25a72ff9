package wrapper

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since the machine's boot, suspend included: what the 20 s between ask and start are measured on.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // can't happen on a kernel that Go runs on
	}
	return time.Duration(ts.Nano())
}

// bootID tells this boot of the machine from any other.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// procStat is what is read of /proc/<pid>/stat.
type procStat struct {
	name  string
	state byte
	group int
	start uint64 // ticks since boot: with the pid it names a process for ever
}

// readStat reads a process's state; it works for zombies too.
func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// parseStat takes the name from between the outermost parentheses: it may hold spaces and parentheses itself.
func parseStat(b []byte) (procStat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("parse stat %q: no name", b)
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, fmt.Errorf("parse stat %q: %d fields", b, len(fields))
	}
	group, err := strconv.Atoi(fields[2])
	if err != nil {
		return procStat{}, fmt.Errorf("parse stat: %w", err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("parse stat: %w", err)
	}
	return procStat{name: string(b[open+1 : end]), state: fields[0][0], group: group, start: start}, nil
}

func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' }

// alive reports whether the process with this pid and start time runs; a start of 0 means that any will do.
func alive(pid int, start uint64) bool {
	if pid <= 0 {
		return false
	}
	s, err := readStat(pid)
	return err == nil && !s.dead() && (start == 0 || s.start == start)
}

// groupAlive reports whether a process group has a member that is not a zombie.
func groupAlive(group int) bool {
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil && s.group == group && !s.dead() {
			return true
		}
	}
	return false
}
