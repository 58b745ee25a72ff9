package saltclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// Certain reports whether a machine's wrapper was certainly started where Publish gave no error. It was not: a minion that
// is down, or listens to another master, has missed it.
func (m *Masters) Certain() bool { return false }

// Heard tells that a launch's wrapper came on a machine.
func (m *Masters) Heard(id saltpeter.LaunchID, machine string) { m.sent.heard(id, machine) }

// Publish has wrappers started under the launch's id on its machines. Each machine's launch goes through one master that
// knows the machine; where one fails, through the next. Coming again with the same id, it goes through masters that have
// not had it yet, if there are any.
func (m *Masters) Publish(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error {
	p, err := m.o.Publication(launch, job, window)
	if err != nil {
		return err
	}
	p.ID = launch.ID
	order := m.fresh(launch.ID)
	if len(order) == 0 {
		return errNoMaster
	}
	left := launch.Machines
	var errs []error
	for round := 0; round < len(order) && len(left) > 0 && ctx.Err() == nil; round++ {
		var failed []error
		left, failed = m.publishRound(ctx, p, launch, job, assign(&m.sent, order, round, left))
		errs = append(errs, failed...)
	}
	if len(left) < len(launch.Machines) {
		// Who is left is not known to any master or behind one that fails: silence will tell, and it is published again.
		return nil
	}
	return errors.Join(errs...)
}

// fresh gives the ways, first those that did not publish a launch yet.
func (m *Masters) fresh(id saltpeter.LaunchID) []*way {
	order, used := m.order(), m.sent.masters(id)
	slices.SortStableFunc(order, func(a, b *way) int {
		return boolCompare(slices.Contains(used, a.get().Name()), slices.Contains(used, b.get().Name()))
	})
	return order
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// assign says which way is tried for each machine in a round: in the first the one at which it is known to listen, if that
// works and has not been tried for this; else all in their order.
func assign(s *sent, order []*way, round int, machines []string) map[*way][]string {
	groups := make(map[*way][]string, 1)
	for _, machine := range machines {
		w := candidate(order, s.home(machine), round)
		groups[w] = append(groups[w], machine)
	}
	return groups
}

// candidate gives the way of a round for a machine whose home is known or empty.
func candidate(order []*way, home string, round int) *way {
	at := slices.IndexFunc(order, func(w *way) bool { return w.get().Name() == home })
	switch {
	case at <= 0 || round > at:
		return order[round]
	case round == 0:
		return order[at]
	default:
		return order[round-1]
	}
}

// publishRound publishes to each group by its way, and gives the machines that no answer names, and what failed.
func (m *Masters) publishRound(ctx context.Context, p *Publication, launch *saltpeter.Launch, job *saltpeter.Job, groups map[*way][]string) (left []string, errs []error) {
	var mu sync.Mutex // guards left and errs
	var g sync.WaitGroup
	for w, machines := range groups {
		for _, part := range parts(launch, job, machines) {
			g.Go(func() {
				missing, err := m.publishPart(ctx, w, *p, part)
				mu.Lock()
				defer mu.Unlock()
				left = append(left, missing...)
				if err != nil {
					errs = append(errs, err)
				}
			})
		}
	}
	g.Wait()
	return left, errs
}

// part is what one publication is for.
type part struct {
	target   Expression
	machines []string
}

// parts cuts machines into lists. All that a job's expression matched, if they are too many for a list, are reached by the
// expression itself: that it may match more by now does no harm, since only a grant executes.
func parts(launch *saltpeter.Launch, job *saltpeter.Job, machines []string) []part {
	if launch.AllMatched && len(machines) > listLimit && job.TargetType != "list" {
		return []part{{Expression{Type: job.TargetType, Text: job.Targets}, machines}}
	}
	var out []part
	for list := range slices.Chunk(machines, listLimit) {
		out = append(out, part{Expression{Type: "list", Text: list}, list})
	}
	return out
}

// publishPart gives the machines that the master doesn't name.
func (m *Masters) publishPart(ctx context.Context, w *way, p Publication, part part) ([]string, error) {
	p.Target = part.target
	var got []string
	err := w.call(ctx, callLimit, p.size(), func(ctx context.Context) (err error) {
		got, err = w.get().Publish(ctx, &p)
		return err
	})
	if err != nil {
		return part.machines, err
	}
	known := make(map[string]bool, len(got))
	for _, id := range got {
		known[id] = true
	}
	var reached, missing []string
	for _, id := range part.machines {
		if known[id] {
			reached = append(reached, id)
		} else {
			missing = append(missing, id)
		}
	}
	m.sent.add(p.ID, w.get().Name(), reached)
	return missing, nil
}

// size estimates what a publication weighs on a master's bus, in bytes.
func (p *Publication) size() int {
	n := 256
	for _, t := range p.Target.Text {
		n += len(t) + 4
	}
	for k, v := range p.Kwargs {
		n += len(k) + 4
		if s, ok := v.(string); ok {
			n += len(s)
		}
	}
	return n
}
