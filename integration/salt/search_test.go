package salt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// search looks for a word, as it is and as common encodings would carry it. MessagePack, which Salt's caches hold, keeps texts
// as they are.
type search struct{ needles [][]byte }

func searchFor(word string) search {
	s := search{needles: [][]byte{[]byte(word), []byte(hex.EncodeToString([]byte(word)))}}
	for shift := range 3 { // the middle of the word's base64, wherever in a text it begins
		text := base64.RawStdEncoding.EncodeToString([]byte("xxx"[:shift] + word))
		s.needles = append(s.needles, []byte(text[4:len(text)-4]))
	}
	return s
}

func (s search) in(b []byte) bool {
	return slices.ContainsFunc(s.needles, func(n []byte) bool { return bytes.Contains(b, n) })
}

// below searches all files of a directory and their names, and gives where it found the word. What begins with a path of except
// is searched for its name only.
func (s search) below(dir string, except ...string) (found []string, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // temporary
		}
		if err != nil {
			return err
		}
		if s.in([]byte(d.Name())) {
			found = append(found, "name of "+path)
		}
		inside := func(e string) bool { return path == e || strings.HasPrefix(path, e+"/") }
		if !d.Type().IsRegular() || slices.ContainsFunc(except, inside) {
			return nil
		}
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		files++
		if s.in(b) {
			found = append(found, path)
		}
		return err
	})
	return found, files, err
}

// watch looks at the command lines and environments of all processes of this host, again and again.
type watch struct {
	search
	wrapper string // whose commands may have the word: its children since they executed, and theirs

	mu     sync.Mutex      // guards the following
	found  map[string]bool // where the word was, where it may not be
	owned  int             // times that it was seen where it may be
	rounds int
	stop   chan struct{}
	ended  sync.WaitGroup
}

// watchFor begins to look.
func watchFor(s search, wrapper string) *watch {
	w := &watch{search: s, wrapper: wrapper, found: map[string]bool{}, stop: make(chan struct{})}
	w.ended.Go(func() {
		for {
			w.round()
			select {
			case <-w.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return w
}

// end stops looking and gives where the word was, and how often it was seen where it may be.
func (w *watch) end() (found []string, owned, rounds int) {
	close(w.stop)
	w.ended.Wait()
	return slices.Sorted(maps.Keys(w.found)), w.owned, w.rounds
}

func (w *watch) round() {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rounds++
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		for _, what := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, what))
			switch {
			case err != nil || !w.in(b):
			case w.ofCommand(pid):
				w.owned++
			default:
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				w.found[fmt.Sprintf("%s of %q", what, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))] = true
			}
		}
	}
}

// ofCommand reports whether a process is a wrapper's command, or of one, and not the wrapper itself.
func (w *watch) ofCommand(pid int) bool {
	for first := true; pid > 1; first = false {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			return false
		}
		if strings.HasPrefix(exe, w.wrapper) {
			return !first
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			return false
		}
	}
	return false
}
