package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process uses.
type Usage struct {
	CPU        time.Duration // user and system, since its start
	RSS        int64         // bytes in memory
	Anon       int64         // bytes of RSS that no file is behind: without the mapped log
	HeapInUse  uint64        // after a collection, if one was asked for
	StackInUse uint64
	Goroutines int
}

// usage measures this process, after a collection if collect is set.
func usage(collect bool) (any, error) {
	if collect {
		runtime.GC()
		runtime.GC() // the first one empties the pools into their victims
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := Usage{HeapInUse: m.HeapInuse, StackInUse: m.StackInuse, Goroutines: runtime.NumGoroutine()}
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return nil, err
	}
	u.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	var err error
	if u.RSS, err = StatusOf(os.Getpid(), "VmRSS"); err != nil {
		return nil, err
	}
	u.Anon, err = StatusOf(os.Getpid(), "RssAnon")
	return u, err
}

// StatusOf reads a size from a process's status, in bytes.
func StatusOf(pid int, field string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

// common are the requests that every role answers.
func common() map[string]op {
	var profile *os.File
	return map[string]op{
		"usage": with(usage),
		"profile": with(func(path string) (any, error) { // an empty path ends it
			if path == "" {
				pprof.StopCPUProfile()
				return nil, profile.Close()
			}
			var err error
			if profile, err = os.Create(path); err != nil {
				return nil, err
			}
			return nil, pprof.StartCPUProfile(profile)
		}),
		"heap": with(func(path string) (any, error) {
			f, err := os.Create(path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			runtime.GC()
			return nil, pprof.WriteHeapProfile(f)
		}),
		"mark": func(json.RawMessage) (any, error) { return time.Now(), nil },
	}
}

// Usage asks a process what it uses, after a collection if collect is set.
func (p *Proc) Usage(collect bool) (u Usage, err error) {
	err = p.Ask("usage", collect, &u)
	return u, err
}
