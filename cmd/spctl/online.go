package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/config"
)

const (
	// matchesAtOnce is how many expressions a node is asked for at a time.
	matchesAtOnce = 4
	// namedUnknown is how many unknown machines a warning names.
	namedUnknown = 5
)

// expressionKey tells expressions apart.
type expressionKey struct{ kind, targets string }

// checkedMatch is what a node said of an expression.
type checkedMatch struct {
	job     *saltpeter.Job // the first that has it
	matched api.Matched
	err     error
}

// checkTargets has a node match the targets of all jobs, each expression once, and adds what is wrong with them. Its error says
// that they could not be checked.
func (c *cli) checkTargets(ctx context.Context, result *config.Result) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	keyOf := func(j *saltpeter.Job) expressionKey {
		return expressionKey{j.TargetType, strings.Join(j.Targets, "\x00")}
	}
	matches := map[expressionKey]*checkedMatch{}
	for _, j := range result.Jobs {
		if matches[keyOf(j)] == nil {
			matches[keyOf(j)] = &checkedMatch{job: j}
		}
	}
	var g errgroup.Group
	g.SetLimit(matchesAtOnce)
	for _, m := range matches {
		g.Go(func() error { return m.ask(ctx, cl) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var failed []string
	for _, j := range result.Jobs {
		m := matches[keyOf(j)]
		m.report(result, j.Name)
		failed = append(failed, m.matched.Failed...)
	}
	slices.Sort(failed)
	for _, f := range slices.Compact(failed) {
		c.say("%s %s\n", c.paint(yellow, "!"), printable(f))
	}
	return nil
}

// ask has a node match; only what is wrong with the expression is no error.
func (m *checkedMatch) ask(ctx context.Context, cl *client.Client) error {
	answer, err := cl.Match(ctx, m.job.TargetType, m.job.Targets)
	switch saltpeter.CodeOf(err) {
	case saltpeter.CodeConfig, saltpeter.CodeInvalid, saltpeter.CodeTooLarge:
		m.err = err
		return nil
	}
	m.matched = answer.Value
	return err
}

// report adds to a job's problems.
func (m *checkedMatch) report(result *config.Result, job string) {
	if e, ok := errors.AsType[*saltpeter.Error](m.err); ok {
		level := config.LevelError
		if e.Code == saltpeter.CodeTooLarge {
			level = config.LevelNote // a list that is longer than what a node is asked at a time
		}
		result.AddTarget(job, level, e.Message, e.Hint)
		return
	}
	var unknown []string
	for i := range m.matched.Machines {
		if !m.matched.Machines[i].Known {
			unknown = append(unknown, m.matched.Machines[i].Machine)
		}
	}
	switch {
	case len(m.matched.Machines) == 0:
		result.AddTarget(job, config.LevelWarning, "matches no machine now", "a run would end as no-targets")
	case len(unknown) > namedUnknown:
		result.AddTarget(job, config.LevelWarning, fmt.Sprintf("%s and %d more: %s", strings.Join(unknown[:namedUnknown], ", "), len(unknown)-namedUnknown, unknownText(m.matched.Launcher)), "")
	case len(unknown) > 0:
		result.AddTarget(job, config.LevelWarning, strings.Join(unknown, ", ")+": "+unknownText(m.matched.Launcher), "")
	}
}
