package wrapper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// statusTooLate is the child's word for ErrTooLate.
const statusTooLate = "too late"

// The child's pipes.
const (
	childControl = 3
	childStatus  = 4
)

// child waits for its instruction and becomes the command. It only returns, with an exit code, if it does not.
func child(now func() time.Duration) int {
	keepNothing()
	status := os.NewFile(childStatus, "status")
	_ = os.WriteFile("/proc/self/comm", []byte(childName), 0) // without its name, the parent goes by the one it was born with
	control := os.NewFile(childControl, "control")
	b, err := io.ReadAll(control)
	control.Close()
	var ins instruction
	if err != nil || json.Unmarshal(b, &ins) != nil {
		return 0 // the parent changed its mind, or died
	}
	err = become(ins, now)
	text := err.Error()
	if errors.Is(err, ErrTooLate) {
		text = statusTooLate
	}
	_, _ = io.WriteString(status, text)
	return 1
}

// keepNothing lets no file but the standard ones pass to the next program: callers leak some now and then, and a command
// that held the status pipe would never be seen to have started.
func keepNothing() {
	syscall.CloseOnExec(childStatus)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, fd := range fds {
		if n, err := strconv.Atoi(fd.Name()); err == nil && n > 2 {
			syscall.CloseOnExec(n)
		}
	}
}

// become gives up what the wrapper has, looks at the clock as its last act, and executes.
func become(ins instruction, now func() time.Duration) error {
	if ins.OOM != "" {
		_ = os.WriteFile(oomFile, []byte(ins.OOM), 0) // a wrong score must not cost the run
	}
	if ins.User != nil && ins.User.Switch {
		if err := ins.User.enter(); err != nil {
			return err
		}
	}
	if err := enterDir(ins.Dirs); err != nil {
		return err
	}
	if now() > ins.Deadline {
		return ErrTooLate
	}
	err := syscall.Exec(ins.Argv[0], ins.Argv, ins.Env)
	return fmt.Errorf("execute %s: %w", ins.Argv[0], err)
}

// enterDir changes to the first directory that it can.
func enterDir(dirs []string) error {
	var first error
	for _, dir := range dirs {
		err := os.Chdir(dir)
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("change directory: %w", err)
		}
	}
	return first
}
