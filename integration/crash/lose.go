package crash

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

const (
	// settled is how old the index of a segment must be: a snapshot has covered it since on every node.
	settled = 12 * time.Second
	// twoLooks is what a leader needs to find twice what nobody has.
	twoLooks = 11 * time.Second
)

// rob takes a segment of output from all nodes while they are down, and of three nodes another one from two. The third starts
// late: until then it may have what the others lack, and nothing may be given up.
func (ch *chain) rob(ctx context.Context, p point, setting string) error {
	if err := ch.readable(ctx); err != nil { // after a try that did not pass the point
		return err
	}
	var names []string
	err := rig.WaitFor(ctx, 60*time.Second, "two segments of output that a snapshot names", func() (err error) {
		names, err = ch.oldSegments()
		return err
	})
	if err != nil {
		return err
	}
	from := time.Now()
	for _, n := range ch.c.Nodes {
		if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
			return err
		}
	}
	if err := ch.take(names); err != nil {
		return err
	}
	first, late := ch.c.Nodes, []*rig.Node(nil)
	if len(first) > 2 {
		first, late = first[:2], first[2:]
	}
	err = ch.startArmed(ctx, first, p, setting)
	for _, n := range late {
		time.Sleep(twoLooks)
		err = errors.Join(err, n.Start())
	}
	ch.h.Down(from, time.Now())
	return err
}

// startArmed starts nodes, and arms some of them once they are up: what a restart reads again would pass the point.
func (ch *chain) startArmed(ctx context.Context, nodes []*rig.Node, p point, setting string) error {
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := rig.WaitFor(ctx, 40*time.Second, n.Name+" to know a leader", func() error { return n.Knows(ctx) }); err != nil {
			return err
		}
	}
	armed, err := ch.choose(ctx, p)
	for _, n := range armed {
		if n.Alive() {
			err = errors.Join(err, armPoint(n, setting))
		}
	}
	return err
}

func segmentDir(n *rig.Node) string { return filepath.Join(n.Dir, "data", "segments", "output") }

// oldSegments gives two segments that all nodes have and that their newest snapshots name.
func (ch *chain) oldSegments() ([]string, error) {
	var names []string
	for i, n := range ch.c.Nodes {
		files, err := os.ReadDir(segmentDir(n))
		if err != nil {
			return nil, err
		}
		var here []string
		for _, f := range files {
			name, sealed := strings.CutSuffix(f.Name(), ".idx")
			info, err := f.Info()
			if sealed && err == nil && time.Since(info.ModTime()) > settled {
				here = append(here, name)
			}
		}
		if i == 0 {
			names = here
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(here, name) })
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("there are %d", len(names))
	}
	ch.rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:2], nil
}

// take removes the first segment everywhere, and the second one everywhere but on the third node.
func (ch *chain) take(names []string) error {
	err := ch.noteTaken(ch.c.Nodes[0], names[0])
	for i, n := range ch.c.Nodes {
		taken := names[:1]
		if i < 2 && len(ch.c.Nodes) > 1 {
			taken = names
		}
		err = errors.Join(err, removeSegments(n, taken...))
	}
	return err
}

// noteTaken takes down what a segment holds before nobody has it any more.
func (ch *chain) noteTaken(n *rig.Node, name string) error {
	whole, err := os.ReadFile(filepath.Join(segmentDir(n), name+".seg"))
	if err == nil {
		ch.h.Rob(whole)
	}
	return err
}

func removeSegments(n *rig.Node, names ...string) (err error) {
	for _, name := range names {
		for _, suffix := range []string{".seg", ".idx"} {
			err = errors.Join(err, os.Remove(filepath.Join(segmentDir(n), name+suffix)))
		}
	}
	return err
}

// readable waits until every node gives output: as long as it lacks some, it has none to give.
func (ch *chain) readable(ctx context.Context) error {
	return rig.WaitFor(ctx, 40*time.Second, "output to be readable on every node", func() error {
		runs, err := rig.List[rig.Run](ctx, ch.c, "/jobs/"+jobTick+"/runs")
		if err != nil {
			return err
		}
		for _, r := range runs {
			if r.Ended != nil {
				return ch.c.Everywhere(ctx, "/runs/"+url.PathEscape(r.ID)+"/machines/m1/output?format=raw")
			}
		}
		return errors.New("no run has ended")
	})
}
