package crash

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// housekeeping is how long a leader takes at most to look for records of nodes that are no members.
const housekeeping = 6 * time.Second

// remove kills a follower and has it removed, with the leader armed, or the other follower, or both: the leader forgets the
// record of who is no member any more.
func (ch *chain) remove(ctx context.Context, p point, setting string) error {
	if err := ch.rejoin(ctx); err != nil { // of a try that did not pass the point
		return err
	}
	leader, err := ch.choose(ctx, point{})
	if err != nil {
		return err
	}
	followers := others(ch.c, leader[0])
	ch.rand.Shuffle(len(followers), func(i, j int) { followers[i], followers[j] = followers[j], followers[i] })
	gone, stays := followers[0], followers[1]
	armed := leader
	if p.onFollowers() {
		armed = [][]*rig.Node{leader, {stays}, {leader[0], stays}}[ch.rand.IntN(3)]
	}
	for _, n := range armed {
		if err := armPoint(n, setting); err != nil {
			return err
		}
	}
	if err := gone.End(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	ch.removed = gone
	ch.entering.Go(func() error { return ch.op.Remove(ctx, gone) })
	return nil
}

// rejoin waits until a removed node is forgotten, and has it join with an empty directory, as another one.
func (ch *chain) rejoin(ctx context.Context) error {
	n := ch.removed
	if n == nil {
		return nil
	}
	ch.removed = nil
	if err := ch.entering.Wait(); err != nil {
		return err
	}
	if err := rig.WaitFor(ctx, 40*time.Second, n.Name+" to be forgotten", func() error { return ch.op.Forgotten(ctx, n) }); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(n.Dir, "data")); err != nil {
		return err
	}
	ch.op.Rejoins()
	if err := n.Start(); err != nil {
		return err
	}
	return rig.WaitFor(ctx, time.Minute, n.Name+" to be a member again", func() error { return ch.c.Healthy(ctx) })
}
