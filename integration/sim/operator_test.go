package sim

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

const operatorHost = "op"

// operator is people, who act through the API of any node.
type operator struct {
	w *world

	mu     sync.Mutex // guards what follows
	serial int
	starts map[string]string // acknowledged: idempotency key → run id
	acked  []ackedWrite
}

// ackedWrite is a write that was acknowledged, by what its command carries.
type ackedWrite struct {
	what string
	find func(*commit) bool
}

func newOperator(w *world) *operator { return &operator{w: w, starts: map[string]string{}} }

// on runs f with a client of one node alone.
func (o *operator) on(n *node, limit time.Duration, f func(ctx context.Context, c *client.Client) error) error {
	host := o.w.net.Host(operatorHost)
	c, err := client.New(client.Config{
		Addrs: []client.Addr{{URL: "http://" + n.addr("8888")}},
		Dial:  func(ctx context.Context, _, addr string) (net.Conn, error) { return host.Dial(ctx, addr) },
	})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(o.w.ctx, limit)
	defer cancel()
	return f(ctx, c)
}

func (o *operator) anyNode() *node { return o.w.nodes[o.w.draw(len(o.w.nodes))] }

// livingNode gives a node whose process is not stopped or killed; there must be one.
func (o *operator) livingNode() *node {
	for {
		if n := o.anyNode(); n.life.Load() != nil {
			return n
		}
	}
}

func (o *operator) next() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serial++
	return o.serial
}

// act does one thing that people do.
func (o *operator) act(ev event) {
	switch ev.kind {
	case "start":
		o.start(ev)
	case "kill-run":
		o.kill(ev)
	case "maintenance":
		o.maintain(ev)
	case "pause-job":
		o.pause(ev)
	}
}

const patience = 20 * time.Second

func (o *operator) jobName(ev event) string {
	return o.w.plan.jobs[ev.x%uint64(len(o.w.plan.jobs))].name
}

func (o *operator) start(ev event) { o.startOn(ev, o.anyNode) }

// startOn starts a job on the nodes that pick gives.
func (o *operator) startOn(ev event, pick func() *node) {
	key := fmt.Sprintf("key-%d", o.next())
	job := o.jobName(ev)
	var subset []string
	if ev.y%5 == 0 {
		subset = o.w.plan.machines[:1]
	}
	for try := range 1 + int(ev.y%2) { // the same request twice gives the same run
		n := pick()
		o.w.hist.fault("start", "%s with %s on %s", job, key, n.name)
		var run api.Run
		err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
			a, err := c.Start(ctx, client.Start{Job: job, Key: key, Machines: subset})
			run = a.Value
			return err
		})
		if err != nil {
			o.w.hist.note("start %s: %v", key, err)
			continue
		}
		o.mu.Lock()
		if was, ok := o.starts[key]; ok && was != run.ID {
			o.w.hist.broken("G6", "%s gave run %s and then %s", key, was, run.ID)
		}
		o.starts[key] = run.ID
		o.mu.Unlock()
		o.w.hist.note("start %s on %s gave %s", key, n.name, run.ID)
		o.acknowledged(fmt.Sprintf("start %s", key), startOf(key))
		if try == 0 {
			o.seesRun(run.ID)
		}
	}
}

// seesRun holds any node to showing a run whose start was acknowledged.
func (o *operator) seesRun(id string) {
	n := o.anyNode()
	err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.Run(ctx, id)
		return err
	})
	if err != nil && notFound(err) {
		o.w.hist.broken("G6", "run %s was acknowledged, and %s does not know it: %v", id, n.name, err)
	}
}

func (o *operator) kill(ev event) {
	var running []api.Run
	n := o.anyNode()
	err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		l, err := c.Runs(ctx, url.Values{"state": {"running"}}, 20)
		running = l.Items
		return err
	})
	if err != nil || len(running) == 0 {
		return
	}
	run := running[ev.x%uint64(len(running))]
	var machines []string
	if ev.y%3 == 0 {
		machines = []string{o.w.plan.machines[ev.y/3%uint64(len(o.w.plan.machines))]}
	}
	o.w.hist.fault("kill-run", "%s %v on %s", run.ID, machines, n.name)
	err = o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.Kill(ctx, run.ID, machines)
		return err
	})
	o.w.hist.note("kill %s: %v", run.ID, err)
	if err == nil {
		o.acknowledged("kill "+run.ID, killOf(run.Num))
	}
}

func (o *operator) maintain(ev event) {
	scope, name := "all", ""
	switch ev.x % 4 {
	case 1:
		scope, name = "job", o.jobName(ev)
	case 2:
		scope, name = "machine", o.w.plan.machines[ev.y%uint64(len(o.w.plan.machines))]
	case 3:
		scope, name = "group", "jobs"
	}
	span := client.Span{Reason: fmt.Sprintf("window-%d", o.next())}
	if ev.y%2 == 0 {
		span.For = ev.dur
	}
	if !o.maintainOn(scope, name, span) {
		return
	}
	o.w.sleepWhileFaults(ev.dur)
	o.maintainOff(scope, name)
}

func (o *operator) maintainOn(scope, name string, span client.Span) bool {
	n := o.anyNode()
	o.w.hist.fault("maintenance", "on %s %s (%s) on %s", scope, name, span.Reason, n.name)
	err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.MaintenanceOn(ctx, scope, name, span)
		return err
	})
	o.w.hist.note("%s: %v", span.Reason, err)
	if err == nil {
		o.acknowledged(span.Reason, windowOf(span.Reason))
	}
	return err == nil
}

func (o *operator) maintainOff(scope, name string) bool {
	n := o.anyNode()
	err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.MaintenanceOff(ctx, scope, name)
		return err
	})
	o.w.hist.note("maintenance off %s %s on %s: %v", scope, name, n.name, err)
	return err == nil
}

func (o *operator) pause(ev event) {
	name, reason := o.jobName(ev), fmt.Sprintf("window-%d", o.next())
	n := o.anyNode()
	o.w.hist.fault("pause-job", "%s (%s) on %s", name, reason, n.name)
	err := o.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.Pause(ctx, name, client.Span{Reason: reason})
		return err
	})
	o.w.hist.note("%s: %v", reason, err)
	if err != nil {
		return
	}
	o.acknowledged(reason, windowOf(reason))
	o.w.sleepWhileFaults(ev.dur)
	err = o.on(o.anyNode(), patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.Resume(ctx, name)
		return err
	})
	o.w.hist.note("resume %s: %v", name, err)
}

// acknowledged remembers a write and holds strong reads, at once on every node, to having seen it (G6): their index lies at or
// behind that of the write's entry.
func (o *operator) acknowledged(what string, find func(*commit) bool) {
	o.mu.Lock()
	o.acked = append(o.acked, ackedWrite{what, find})
	o.mu.Unlock()
	index, ok := o.w.commits.find(find)
	if !ok {
		o.w.hist.broken("G6", "%s was acknowledged and is not committed", what)
		return
	}
	o.w.readers.raise(index, what)
	for _, n := range o.w.nodes {
		o.w.wg.Go(func() { o.w.readers.strong(n) })
	}
}
