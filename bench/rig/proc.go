package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// stopWait is how long a process has for its end in good order.
const stopWait = 30 * time.Second

// request and answer are the lines between a process and who started it.
type request struct {
	Op  string          `json:"op"`
	Arg json.RawMessage `json:"arg,omitempty"`
}

type answer struct {
	Event string          `json:"event,omitempty"` // empty = the answer to the oldest request
	Err   string          `json:"err,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Proc is a process in a role.
type Proc struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan answer
	gone    chan struct{} // closed when the process has ended
	end     string        // how it ended; valid once gone is closed

	mu sync.Mutex // one request at a time
}

// Start starts this program in a role and waits until it is ready; ready takes what it says then, nil = nothing. event, if
// not nil, is called by one goroutine with what the process tells unasked. log takes its standard error. The process is
// killed when ctx ends.
func Start(ctx context.Context, role string, spec, ready any, event func(name string, body json.RawMessage), log *os.File) (*Proc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "role", role)
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	p := &Proc{cmd: cmd, in: in, answers: make(chan answer, 1), gone: make(chan struct{})}
	go p.read(out, event)
	if err := p.Ask("begin", spec, ready); err != nil {
		return nil, errors.Join(fmt.Errorf("begin %s: %w", role, err), p.Kill())
	}
	return p, nil
}

// PID is the process's id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

func (p *Proc) read(out io.Reader, event func(string, json.RawMessage)) {
	defer close(p.gone)
	defer close(p.answers)
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		var a answer
		if json.Unmarshal(line, &a) != nil {
			continue // not ours: something printed
		}
		if a.Event == "" {
			p.answers <- a
		} else if event != nil {
			event(a.Event, a.Body)
		}
	}
	_ = p.cmd.Wait() // its state says it better
	p.end = p.cmd.ProcessState.String()
}

// Ask makes a request and waits for its answer, which out takes; nil = it is not of interest.
func (p *Proc) Ask(op string, arg, out any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, err := json.Marshal(arg)
	if err != nil {
		return fmt.Errorf("encode %s: %w", op, err)
	}
	line, err := json.Marshal(request{Op: op, Arg: body})
	if err != nil {
		return fmt.Errorf("encode %s: %w", op, err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return p.lost(op, err)
	}
	a, ok := <-p.answers
	switch {
	case !ok:
		return p.lost(op, errGone)
	case a.Err != "":
		return fmt.Errorf("%s: %s", op, a.Err)
	case out == nil || len(a.Body) == 0:
		return nil
	}
	return json.Unmarshal(a.Body, out)
}

// lost says how the process ended that a request did not reach.
func (p *Proc) lost(op string, err error) error {
	select {
	case <-p.gone:
		return fmt.Errorf("ask %s: %w: %s", op, err, p.end)
	case <-time.After(time.Second):
		return fmt.Errorf("ask %s: %w", op, err)
	}
}

var (
	errGone  = errors.New("the process has ended")
	errStuck = errors.New("the process did not end by itself")
)

// Stop ends the process in good order.
func (p *Proc) Stop() error {
	_ = p.in.Close() // its end is what tells
	select {
	case <-p.gone:
		return nil
	case <-time.After(stopWait):
		return errors.Join(errStuck, p.Kill())
	}
}

// Kill ends the process at once, as a crash would.
func (p *Proc) Kill() error {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.in.Close()
	for {
		select {
		case <-p.answers: // whoever reads its output must not wait for us
		case <-p.gone:
			return nil
		}
	}
}
