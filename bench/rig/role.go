package rig

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// op answers one kind of request.
type op func(arg json.RawMessage) (any, error)

// role is what a process does: begin takes the specification, ops answer what is asked afterwards, end undoes all.
type role interface {
	begin(spec json.RawMessage, tell teller) (ready any, err error)
	ops() map[string]op
	end() error
}

// teller tells something unasked.
type teller func(event string, body any)

// Roles are what a process may be started as.
func roles() map[string]role {
	return map[string]role{"node": new(node), "fleet": new(fleet), "bare-ws": new(bareWS), "bare-raft": new(bareRaft), "bare-http": new(bareHTTP)}
}

// Play makes this process the named role until in ends.
func Play(name string, in io.Reader, out io.Writer) error {
	r, ok := roles()[name]
	if !ok {
		return fmt.Errorf("unknown role %q", name)
	}
	var outMu sync.Mutex
	say := func(a answer, body any) {
		b, err := json.Marshal(body)
		if err != nil {
			a.Err = err.Error()
		}
		a.Body = b
		line, err := json.Marshal(a)
		if err != nil {
			return // of strings and valid JSON only
		}
		outMu.Lock()
		defer outMu.Unlock()
		_, _ = out.Write(append(line, '\n')) // who reads may be gone: the input ends then
	}
	known := r.ops()
	known["begin"] = func(spec json.RawMessage) (any, error) {
		return r.begin(spec, func(event string, body any) { say(answer{Event: event}, body) })
	}
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, r.end())
		}
		body, err := perform(known, line)
		if err != nil {
			say(answer{Err: err.Error()}, nil)
		} else {
			say(answer{}, body)
		}
	}
}

func perform(known map[string]op, line []byte) (any, error) {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	do, ok := known[req.Op]
	if !ok {
		return nil, fmt.Errorf("unknown request %q", req.Op)
	}
	return do(req.Arg)
}

// with decodes the argument of a request.
func with[Arg any](f func(Arg) (any, error)) op {
	return func(raw json.RawMessage) (any, error) {
		var arg Arg
		if err := json.Unmarshal(raw, &arg); err != nil {
			return nil, fmt.Errorf("read argument: %w", err)
		}
		return f(arg)
	}
}
