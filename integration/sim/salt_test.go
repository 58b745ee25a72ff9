package sim

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// salt is what starts wrappers. It is no part of any node: a node that is cut off from the others still reaches it.
type salt struct {
	w *world
}

// saltOf is the launcher as one node has it.
type saltOf struct {
	*salt
	n *node
}

var errSalt = errors.New("salt: minions did not return")

// Resolve implements scheduler.Launcher.
func (s saltOf) Resolve(ctx context.Context, job saltpeter.Job, subset []string, needUp bool) ([]saltpeter.Resolved, error) {
	s.n.gate.pass()
	p := &s.w.plan.salt
	if err := s.w.wait(ctx, s.w.upTo(p.delay)); err != nil {
		return nil, err
	}
	s.n.gate.pass()
	if s.w.chance(p.resolveErr) {
		s.w.hist.fault("salt-resolve-error", "%s", job.Name)
		return nil, errSalt
	}
	var out []saltpeter.Resolved
	for _, m := range s.w.machines {
		if matches(&job, m.name) && (len(subset) == 0 || slices.Contains(subset, m.name)) {
			out = append(out, saltpeter.Resolved{Machine: m.name, Up: !needUp || m.isUp()})
		}
	}
	return out, nil
}

func matches(job *saltpeter.Job, name string) bool {
	if job.TargetType == "list" {
		return slices.Contains(job.Targets, name)
	}
	ok, err := path.Match(strings.Join(job.Targets, ","), name)
	return ok && err == nil
}

// Certain implements scheduler.Launcher.
func (saltOf) Certain() bool { return false }

// Publish implements scheduler.Launcher: it may fail before or after it reached the machines, reach some of them only,
// late, or twice.
func (s saltOf) Publish(ctx context.Context, launch *saltpeter.Launch, _ *saltpeter.Job, window time.Duration) error {
	s.n.gate.pass()
	p := &s.w.plan.salt
	if err := s.w.wait(ctx, s.w.upTo(p.delay)); err != nil {
		return err
	}
	s.n.gate.pass()
	if s.w.chance(p.publishErr) {
		s.w.hist.fault("salt-publish-error", "%s", launch.RunID)
		return errSalt
	}
	for _, name := range launch.Machines {
		late := s.w.upTo(p.delay)
		switch {
		case s.w.chance(p.lose):
			s.w.hist.fault("salt-lost", "%s for %s", launch.RunID, name)
			continue
		case s.w.chance(p.late):
			late = s.w.upTo(p.lateBy)
			s.w.hist.fault("salt-late", "%s for %s by %s", launch.RunID, name, late)
		}
		s.deliver(launch.ID, name, late, window)
		if s.w.chance(p.twice) {
			again := s.w.upTo(p.lateBy)
			s.w.hist.fault("salt-twice", "%s for %s after %s", launch.RunID, name, again)
			s.deliver(launch.ID, name, again, window)
		}
	}
	if s.w.chance(p.doubtful) {
		s.w.hist.fault("salt-doubtful", "%s", launch.RunID)
		return errSalt
	}
	return nil
}

func (s *salt) deliver(id saltpeter.LaunchID, name string, late, window time.Duration) {
	s.w.wg.Go(func() {
		if s.w.wait(s.w.ctx, late) == nil {
			s.w.machine(name).spawn(id, window)
		}
	})
}

// Ping implements scheduler.Launcher.
func (s saltOf) Ping(ctx context.Context, machines []string) (up []string, err error) {
	s.n.gate.pass()
	for _, name := range machines {
		if s.w.machine(name).isUp() {
			up = append(up, name)
		}
	}
	if len(up) < len(machines) {
		<-ctx.Done()
		return up, nil
	}
	return up, s.w.wait(ctx, s.w.upTo(s.w.plan.salt.delay))
}
