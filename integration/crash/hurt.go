package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
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
	if err = errors.Join(ch.leaveEpoch(ctx), ch.rejoin(ctx)); err != nil {
		return hit, err
	}
	err = ch.settle(ctx)
	switch p.provoke {
	case byDeath:
		err = errors.Join(err, ch.keepAll(ctx))
	case byLoss:
		err = errors.Join(err, ch.readable(ctx))
	}
	return hit, err
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
	err := rig.WaitFor(ctx, 40*time.Second, "a leader", func() error {
		_, err := ch.c.Leader(ctx)
		return err
	})
	time.Sleep(time.Second + time.Duration(ch.rand.IntN(1000))*time.Millisecond)
	return errors.Join(err, ch.c.AllUp())
}

func (ch *chain) hurtWrapper(ctx context.Context, cs Case) (int, error) {
	count := func() (n int) {
		for _, h := range hits(wrapperLog(ch.c)) {
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
		tmp := wrapperArm(ch.c) + ".new"
		if err := os.WriteFile(tmp, []byte(cs.Point+":"+cs.Action), 0o644); err != nil {
			return 0, err
		}
		if err := os.Rename(tmp, wrapperArm(ch.c)); err != nil {
			return 0, err
		}
		for again := time.Now().Add(5 * time.Second); count() == before && time.Now().Before(again); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	_ = os.Remove(wrapperArm(ch.c)) // a wrapper may have taken it meanwhile
	time.Sleep(time.Second)
	return count() - before, nil
}

// hurtNode arms nodes until one is hit, and mends those that were.
func (ch *chain) hurtNode(ctx context.Context, p point, cs Case) (int, error) {
	setting := cs.Point + ":" + cs.Action
	before := make(map[*rig.Node]int)
	for _, n := range ch.c.Nodes {
		before[n] = len(hits(crashLog(n)))
	}
	struck := func() (list []*rig.Node) {
		for _, n := range ch.c.Nodes {
			if len(hits(crashLog(n))) > before[n] {
				list = append(list, n)
			}
		}
		return list
	}
	for deadline := time.Now().Add(hitLimit); len(struck()) == 0 && time.Now().Before(deadline); {
		if err := ch.provoke(ctx, p, setting, struck); err != nil {
			return 0, err
		}
		for again := time.Now().Add(p.provoke.patience()); len(struck()) == 0 && time.Now().Before(again); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(200 * time.Millisecond) // others may be at it too
	hit := struck()
	from := time.Now()
	for _, n := range ch.c.Nodes {
		if n.Alive() && len(hits(crashLog(n))) == before[n] {
			if err := armPoint(n, ""); err != nil {
				return 0, err
			}
		}
	}
	return len(hit), ch.mend(ctx, hit, cs.Action, from)
}

// mend restarts what was killed, after a moment, and wakes what was stopped, after four seconds.
func (ch *chain) mend(ctx context.Context, struck []*rig.Node, action string, from time.Time) error {
	if len(struck) == 0 {
		return nil
	}
	if action == "stop" {
		time.Sleep(pause - time.Since(from))
		for _, n := range struck {
			if err := armPoint(n, ""); err != nil {
				return err
			}
			if err := n.Signal(syscall.SIGCONT); err != nil {
				return err
			}
		}
	} else {
		time.Sleep(time.Duration(ch.rand.IntN(1000)) * time.Millisecond)
		for _, n := range struck {
			select {
			case <-n.Gone:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("%s was to be killed and lives", n.Name)
			}
			if err := n.Start(); err != nil {
				return err
			}
		}
	}
	err := rig.WaitFor(ctx, 40*time.Second, "a leader after "+action, func() error {
		_, err := ch.c.Leader(ctx)
		return err
	})
	ch.h.Down(from, time.Now())
	return err
}

// provoke arms nodes, and does what makes the point be passed.
func (ch *chain) provoke(ctx context.Context, p point, setting string, struck func() []*rig.Node) error {
	switch {
	case p.provoke == byStart, p.provoke == byReturn && len(ch.c.Nodes) == 1:
		return ch.restart(ctx, setting, struck)
	case p.provoke == byClock:
		return ch.turnClocks(ctx, p, setting)
	case p.provoke == byKeys:
		return ch.changeKeys(ctx, setting, struck)
	case p.provoke == byRestore:
		return ch.restore(ctx, p, setting)
	case p.provoke == byRecovery:
		return ch.recover(ctx, setting, func(*rig.Node) error { return nil })
	case p.provoke == byRemoval:
		return ch.remove(ctx, p, setting)
	case p.provoke == byLoss:
		return ch.rob(ctx, p, setting)
	case p.provoke == byDeath:
		if err := ch.fillUp(ctx); err != nil {
			return err
		}
	}
	armed, err := ch.choose(ctx, p)
	if err != nil {
		return err
	}
	for _, n := range armed {
		if err := armPoint(n, setting); err != nil {
			return err
		}
	}
	switch p.provoke {
	case byEdit:
		ch.c.Edition++
		return ch.c.WriteConfig()
	case byDeath:
		return ch.keep(keptBytes)
	case bySilence:
		return os.WriteFile(wrapperArm(ch.c), []byte("claim.before:kill"), 0o644)
	case byWindow:
		go func() {
			defer ch.op.Hold()() // two people at one window would lift each other's
			_ = ch.op.MaintainFor(ctx, 7)
		}()
	case byToken:
		go func() { _ = ch.op.PassToken(ctx) }()
	case byReturn:
		return ch.bounce(armed[0])
	}
	return nil
}

// choose gives the nodes to arm: the leader, and for points that all nodes pass sometimes a follower, or all.
func (ch *chain) choose(ctx context.Context, p point) ([]*rig.Node, error) {
	if len(ch.c.Nodes) == 1 {
		return ch.c.Nodes, nil
	}
	var leader *rig.Node
	err := rig.WaitFor(ctx, 40*time.Second, "a leader", func() (err error) {
		leader, err = ch.c.Leader(ctx)
		return err
	})
	if err != nil || !p.onFollowers() {
		return []*rig.Node{leader}, err
	}
	switch ch.rand.IntN(4) {
	case 0:
		return ch.c.Nodes, nil
	case 1:
		for _, n := range ch.c.Nodes {
			if n != leader {
				return []*rig.Node{n}, nil
			}
		}
	}
	return []*rig.Node{leader}, nil
}

// restart ends a node and starts it with the point armed: the only one, or the leader, with the others armed too.
func (ch *chain) restart(ctx context.Context, setting string, struck func() []*rig.Node) error {
	from := time.Now()
	victim := ch.c.Nodes[0]
	if len(ch.c.Nodes) > 1 {
		leader, err := ch.choose(ctx, point{})
		if err != nil {
			return err
		}
		victim = leader[0]
		for _, n := range ch.c.Nodes {
			if n != victim {
				if err := armPoint(n, setting); err != nil {
					return err
				}
			}
		}
	}
	if len(struck()) > 0 {
		return nil
	}
	if err := victim.End(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	if err := victim.Start("SP_CRASHPOINT=" + setting); err != nil {
		return err
	}
	ch.h.Down(from, time.Now())
	return nil
}

// bounce kills and restarts a node that was not armed, so that its wrappers go to another.
func (ch *chain) bounce(armed *rig.Node) error {
	from := time.Now()
	for _, n := range ch.c.Nodes {
		if n == armed {
			continue
		}
		if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
			return err
		}
		if err := n.Start(); err != nil {
			return err
		}
		break
	}
	ch.h.Down(from, time.Now())
	return nil
}
