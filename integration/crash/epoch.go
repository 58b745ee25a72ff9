package crash

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

func keyFile(c *rig.Cluster) string { return filepath.Join(c.Dir, "key") }

// secondKey lists another key of the cluster behind the first, so that they can change places.
func secondKey(c *rig.Cluster) error {
	f, err := os.OpenFile(keyFile(c), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	_, err = fmt.Fprintln(f, hex.EncodeToString(secret))
	return errors.Join(err, f.Close())
}

// changeKeys puts the other key first and restarts one node after the other, the leader last: whoever leads then names the key.
// Followers are armed once they are up, or they would pass the point with what they read again.
func (ch *chain) changeKeys(ctx context.Context, setting string, struck func() []*rig.Node) error {
	if err := swapKeys(ch.c); err != nil {
		return err
	}
	chosen, err := ch.choose(ctx, point{})
	if err != nil {
		return err
	}
	from := time.Now()
	defer func() { ch.h.Down(from, time.Now()) }()
	for _, n := range others(ch.c, chosen[0]) {
		if err := ch.restartArmed(ctx, n, setting); err != nil || len(struck()) > 0 { // the leader may have changed
			return err
		}
	}
	if err := chosen[0].End(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	if len(ch.c.Nodes) == 1 {
		return chosen[0].Start("SP_CRASHPOINT=" + setting)
	}
	return chosen[0].Start()
}

// swapKeys puts the second key first.
func swapKeys(c *rig.Cluster) error {
	text, err := os.ReadFile(keyFile(c))
	if err != nil {
		return err
	}
	lines := strings.Fields(string(text))
	if len(lines) != 2 {
		return fmt.Errorf("%s has %d keys", keyFile(c), len(lines))
	}
	tmp := keyFile(c) + ".new"
	if err := os.WriteFile(tmp, []byte(lines[1]+"\n"+lines[0]+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, keyFile(c))
}

// restartArmed kills a node, starts it, and arms it once it knows a leader.
func (ch *chain) restartArmed(ctx context.Context, n *rig.Node, setting string) error {
	if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	if err := rig.WaitFor(ctx, 40*time.Second, n.Name+" to know a leader", func() error { return n.Knows(ctx) }); err != nil {
		return err
	}
	return armPoint(n, setting)
}

// others gives the nodes but one.
func others(c *rig.Cluster, but *rig.Node) []*rig.Node {
	var out []*rig.Node
	for _, n := range c.Nodes {
		if n != but {
			out = append(out, n)
		}
	}
	return out
}

// restore takes a backup, lets the jobs go on for a moment that will be forgotten, and has the backup restored, with nodes
// armed. What is over by then is taken into evidence.
func (ch *chain) restore(ctx context.Context, p point, setting string) error {
	if err := ch.leaveEpoch(ctx); err != nil { // of a try that did not pass the point
		return err
	}
	armed, err := ch.choose(ctx, p)
	if err != nil {
		return err
	}
	epoch, err := ch.op.Save(ctx, ch.rand.IntN(2) == 0)
	if err != nil {
		return err
	}
	time.Sleep(1500 * time.Millisecond)
	release := ch.op.Hold()
	err = ch.c.Finished(ctx, &ch.early)
	for _, n := range armed {
		err = errors.Join(err, armPoint(n, setting))
	}
	if err != nil {
		release()
		return err
	}
	ch.epoch = epoch
	ch.entering.Go(func() error {
		defer release()
		return ch.op.Restore(ctx, epoch)
	})
	return nil
}

// form begins a cluster as people do, whose nodes are known to no setting: only such a cluster can be recovered.
func (ch *chain) form(ctx context.Context) error {
	for _, n := range ch.c.Nodes {
		n.Args, n.Env = ch.c.Joins(), plainEnv(n)
		if err := n.Start(); err != nil {
			return err
		}
	}
	return ch.c.Begun(ctx)
}

// recover kills the followers, then the leader, and makes the leader's directory that of a cluster of one: nothing that was
// acknowledged is missing there, but for what spoil takes. The node begins its epoch with the point armed.
func (ch *chain) recover(ctx context.Context, setting string, spoil func(*rig.Node) error) error {
	if len(ch.c.Nodes) == 1 {
		return errors.New("the point was not passed, and a cluster can be recovered once")
	}
	chosen, err := ch.choose(ctx, point{})
	if err != nil {
		return err
	}
	leader := chosen[0]
	time.Sleep(5 * time.Second) // for something to be unfinished then
	release := ch.op.Hold()
	epoch, err := ch.op.Lose(func() (err error) {
		for _, n := range append(others(ch.c, leader), leader) {
			err = errors.Join(err, n.End(syscall.SIGKILL, 10*time.Second))
		}
		return err
	})
	from := time.Now()
	if err == nil {
		err = spoil(leader)
	}
	if err == nil {
		err = recoverNode(ctx, leader)
	}
	if err == nil {
		ch.c.Nodes = []*rig.Node{leader}
		err = leader.Start("SP_CRASHPOINT=" + setting)
	}
	ch.h.Down(from, time.Now())
	if err != nil {
		release()
		return err
	}
	ch.epoch = epoch
	ch.entering.Go(func() error {
		defer release()
		return ch.op.Recovered(ctx, epoch)
	})
	return nil
}

// recoverNode runs the command for it on a stopped node.
func recoverNode(ctx context.Context, n *rig.Node) error {
	cmd := exec.CommandContext(ctx, n.C.Bin.Node, "recover", "-y", "--data-dir", filepath.Join(n.Dir, "data"))
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Recovered.")) {
		return fmt.Errorf("recover %s: %w\n%s", n.Name, err, out)
	}
	return nil
}

// leaveEpoch waits for an epoch that is on its way, and lifts its maintenance.
func (ch *chain) leaveEpoch(ctx context.Context) error {
	if ch.epoch == nil {
		return nil
	}
	epoch := ch.epoch
	ch.epoch = nil
	if err := ch.entering.Wait(); err != nil {
		return err
	}
	return ch.op.Leave(ctx, epoch)
}
