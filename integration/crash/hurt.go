package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// hurt does one case: it arms the point, has it passed, mends what was hurt and lets the jobs go on.
func (ch *chain) hurt(ctx context.Context, cs Case) (hit int, err error) {
	p, ok := findPoint(cs.Point)
	if !ok {
		return 0, fmt.Errorf("there is no point %q", cs.Point)
	}
	if p.ofWrapper() {
		return ch.hurtWrapper(ctx, cs)
	}
	if hit, err = ch.hurtNode(ctx, p, cs); err != nil {
		return hit, err
	}
	return hit, ch.settle(ctx)
}

func findPoint(name string) (point, bool) {
	for _, p := range append(nodePoints(), wrapperPoints()...) {
		if p.name == name {
			return p, true
		}
	}
	return point{}, false
}

// settle waits until the cluster works again, and some seconds more.
func (ch *chain) settle(ctx context.Context) error {
	err := waitFor(ctx, 40*time.Second, "a leader", func() error {
		_, err := ch.c.leader(ctx)
		return err
	})
	time.Sleep(time.Second + time.Duration(ch.rand.IntN(1000))*time.Millisecond)
	return errors.Join(err, ch.c.allUp())
}

// allUp says which node ended without being asked to.
func (c *Cluster) allUp() error {
	for _, n := range c.nodes {
		if !n.alive() {
			return fmt.Errorf("%s ended by itself: %s", n.name, n.proc.ProcessState)
		}
	}
	return nil
}

func (ch *chain) hurtWrapper(ctx context.Context, cs Case) (int, error) {
	count := func() (n int) {
		for _, h := range hits(ch.c.wrapperLog()) {
			if h.point == cs.Point && h.action == cs.Action {
				n++
			}
		}
		return n
	}
	before := count()
	for deadline := time.Now().Add(hitLimit); count() == before; {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return 0, ctx.Err()
		}
		tmp := ch.c.wrapperArm() + ".new"
		if err := os.WriteFile(tmp, []byte(cs.Point+":"+cs.Action), 0o644); err != nil {
			return 0, err
		}
		if err := os.Rename(tmp, ch.c.wrapperArm()); err != nil {
			return 0, err
		}
		for again := time.Now().Add(5 * time.Second); count() == before && time.Now().Before(again); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	_ = os.Remove(ch.c.wrapperArm()) // a wrapper may have taken it meanwhile
	time.Sleep(time.Second)
	return count() - before, nil
}

// hurtNode arms nodes until one is hit, and mends those that were.
func (ch *chain) hurtNode(ctx context.Context, p point, cs Case) (int, error) {
	setting := cs.Point + ":" + cs.Action
	before := make(map[*node]int)
	for _, n := range ch.c.nodes {
		before[n] = len(hits(n.crashLog()))
	}
	struck := func() (list []*node) {
		for _, n := range ch.c.nodes {
			if len(hits(n.crashLog())) > before[n] {
				list = append(list, n)
			}
		}
		return list
	}
	for deadline := time.Now().Add(hitLimit); len(struck()) == 0 && time.Now().Before(deadline); {
		if err := ch.provoke(ctx, p, setting, struck); err != nil {
			return 0, err
		}
		for again := time.Now().Add(reprod); len(struck()) == 0 && time.Now().Before(again); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(200 * time.Millisecond) // others may be at it too
	hit := struck()
	from := time.Now()
	for _, n := range ch.c.nodes {
		if n.alive() && len(hits(n.crashLog())) == before[n] {
			if err := n.armPoint(""); err != nil {
				return 0, err
			}
		}
	}
	return len(hit), ch.mend(ctx, hit, cs.Action, from)
}

// mend restarts what was killed, after a moment, and wakes what was stopped, after four seconds.
func (ch *chain) mend(ctx context.Context, struck []*node, action string, from time.Time) error {
	if len(struck) == 0 {
		return nil
	}
	if action == "stop" {
		time.Sleep(pause - time.Since(from))
		for _, n := range struck {
			if err := n.armPoint(""); err != nil {
				return err
			}
			if err := n.signal(syscall.SIGCONT); err != nil {
				return err
			}
		}
	} else {
		time.Sleep(time.Duration(ch.rand.IntN(1000)) * time.Millisecond)
		for _, n := range struck {
			select {
			case <-n.gone:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("%s was to be killed and lives", n.name)
			}
			if err := n.start(""); err != nil {
				return err
			}
		}
	}
	err := waitFor(ctx, 40*time.Second, "a leader after "+action, func() error {
		_, err := ch.c.leader(ctx)
		return err
	})
	ch.h.down(from, time.Now())
	return err
}

// provoke arms nodes, and does what makes the point be passed.
func (ch *chain) provoke(ctx context.Context, p point, setting string, struck func() []*node) error {
	if p.provoke == byStart || p.provoke == byReturn && len(ch.c.nodes) == 1 {
		return ch.restart(ctx, setting, struck)
	}
	armed, err := ch.choose(ctx, p)
	if err != nil {
		return err
	}
	for _, n := range armed {
		if err := n.armPoint(setting); err != nil {
			return err
		}
	}
	switch p.provoke {
	case byEdit:
		ch.c.edition++
		return ch.c.writeConfig()
	case bySilence:
		return os.WriteFile(ch.c.wrapperArm(), []byte("claim.before:kill"), 0o644)
	case byWindow:
		go func() { _ = ch.op.maintainFor(ctx, 7) }()
	case byReturn:
		return ch.bounce(armed[0])
	}
	return nil
}

// choose gives the nodes to arm: the leader, and for points that all nodes pass sometimes a follower, or all.
func (ch *chain) choose(ctx context.Context, p point) ([]*node, error) {
	if len(ch.c.nodes) == 1 {
		return ch.c.nodes, nil
	}
	var leader *node
	err := waitFor(ctx, 40*time.Second, "a leader", func() (err error) {
		leader, err = ch.c.leader(ctx)
		return err
	})
	if err != nil || !p.onFollowers() {
		return []*node{leader}, err
	}
	switch ch.rand.IntN(4) {
	case 0:
		return ch.c.nodes, nil
	case 1:
		for _, n := range ch.c.nodes {
			if n != leader {
				return []*node{n}, nil
			}
		}
	}
	return []*node{leader}, nil
}

// restart ends a node and starts it with the point armed: the only one, or the leader, with the others armed too.
func (ch *chain) restart(ctx context.Context, setting string, struck func() []*node) error {
	from := time.Now()
	victim := ch.c.nodes[0]
	if len(ch.c.nodes) > 1 {
		leader, err := ch.choose(ctx, point{})
		if err != nil {
			return err
		}
		victim = leader[0]
		for _, n := range ch.c.nodes {
			if n != victim {
				if err := n.armPoint(setting); err != nil {
					return err
				}
			}
		}
	}
	if len(struck()) > 0 {
		return nil
	}
	if err := victim.end(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	if err := victim.start(setting); err != nil {
		return err
	}
	ch.h.down(from, time.Now())
	return nil
}

// bounce kills and restarts a node that was not armed, so that its wrappers go to another.
func (ch *chain) bounce(armed *node) error {
	from := time.Now()
	for _, n := range ch.c.nodes {
		if n == armed {
			continue
		}
		if err := n.end(syscall.SIGKILL, 10*time.Second); err != nil {
			return err
		}
		if err := n.start(""); err != nil {
			return err
		}
		break
	}
	ch.h.down(from, time.Now())
	return nil
}
