package wrapper

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holder is who has a lock.
type holder struct {
	pid     int
	run     string // run id
	machine string
	start   uint64 // of the process, ticks since boot; 0 if it is not known
}

// descriptionSuffix makes the name of the file beside a lock file in which our own wrappers say what the lock file itself has
// no room for: the Python program's wrapper takes all of it for a pid. It is of help, and a lock works without it.
const descriptionSuffix = ".holder"

// readHolder reads who has the lock file f at path; of a file that says nothing, the zero value. What the second file
// says counts for the same pid only: it may be that of a wrapper that died.
func readHolder(f *os.File, path string) holder {
	var h holder
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 64))
	first, _, _ := strings.Cut(string(text), "\n")
	h.pid, _ = strconv.Atoi(strings.TrimSpace(first))
	if d := readDescription(path); h.pid != 0 && d.pid == h.pid {
		return d
	}
	return h
}

// describe writes the second file. In a directory that others may write to it never goes through a link.
func (h holder) describe(path string) {
	path += descriptionSuffix
	os.Remove(path)
	f, err := os.OpenFile(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%d\n%s\n%s\n%d\n", h.pid, h.run, h.machine, h.start)
	f.Close()
}

// readDescription reads the second file of the lock at path, the zero value if there is none.
func readDescription(path string) holder {
	f, err := os.OpenFile(path+descriptionSuffix, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return holder{}
	}
	defer f.Close()
	var h holder
	lines := bufio.NewScanner(io.LimitReader(f, 4096))
	for i := 0; lines.Scan(); i++ {
		switch line := lines.Text(); i {
		case 0:
			h.pid, _ = strconv.Atoi(line)
		case 1:
			h.run = line
		case 2:
			h.machine = line
		case 3:
			h.start, _ = strconv.ParseUint(line, 10, 64)
		}
	}
	return h
}
