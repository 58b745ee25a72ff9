// Command ledger is what the jobs of these tests run: it notes its start in a ledger, works, writes output that anybody
// can compute again, notes its end, and exits. Each line is synced before it goes on, so that what the ledger says happened.
//
//	ledger DIR BYTES SECONDS|@FILE CODE [ANYTHING…]
//
// A line is "start|end JOB INSTANCE MACHINE PID PPID NANOSECONDS CODE"; the ledger of a machine is DIR/MACHINE. Output is
// BYTES bytes in ten pieces over SECONDS, or one piece every 100 ms if that is more, from a generator seeded by instance and machine (rig.Output).
// With @FILE it waits until the file is there, and up to a second more, which its output draws.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		code = 99
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) < 4 {
		return 0, fmt.Errorf("want DIR BYTES SECONDS CODE, got %q", args)
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return 0, err
	}
	file, waits := strings.CutPrefix(args[2], "@")
	seconds := 0.0
	if !waits {
		if seconds, err = strconv.ParseFloat(args[2], 64); err != nil {
			return 0, err
		}
	}
	code, err := strconv.Atoi(args[3])
	if err != nil {
		return 0, err
	}
	signal.Ignore(syscall.SIGPIPE) // the wrapper may be dead: the command goes on, as a real one's work would
	machine, instance := os.Getenv("SP_MACHINE_ID"), os.Getenv("SP_JOB_INSTANCE")
	book, err := os.OpenFile(args[0]+"/"+machine, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	note := func(what string) error {
		line := fmt.Sprintf("%s %s %s %s %d %d %d %d\n", what, os.Getenv("SP_JOB_NAME"), instance, machine, os.Getpid(), os.Getppid(), time.Now().UnixNano(), code)
		if _, err := book.WriteString(line); err != nil {
			return err
		}
		return book.Sync()
	}
	if err := note("start"); err != nil {
		return 0, err
	}
	out := rig.Output(instance, machine, size)
	if waits {
		wait(file, time.Duration(out[0])*time.Second/256)
	}
	work(out, time.Duration(seconds*float64(time.Second)))
	return code, note("end")
}

// wait waits for a file, and then some time more.
func wait(file string, more time.Duration) {
	for {
		if _, err := os.Stat(file); err == nil {
			time.Sleep(more)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// work writes the output in pieces over a time. Nobody may be left to read it.
func work(out []byte, length time.Duration) {
	pieces := max(10, int(length/(100*time.Millisecond)))
	for i := range pieces {
		time.Sleep(length / time.Duration(pieces))
		_, _ = os.Stdout.Write(out[len(out)*i/pieces : len(out)*(i+1)/pieces])
	}
}
