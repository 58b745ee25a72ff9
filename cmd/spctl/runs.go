package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) runsCommand() *cobra.Command {
	var state, job string
	var limit int
	cmd := &cobra.Command{
		Use:   "runs [JOB]",
		Short: "List runs, newest first; show one and its machines",
		Args:  between(0, "JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && job != "" {
				return usage("the job is given twice").WithHint("usage: %s", cmd.UseLine())
			}
			if len(args) == 1 {
				job = args[0]
			}
			if limit < 1 {
				return usage("--limit %d is out of range", limit).WithHint("1 or more")
			}
			return c.listRuns(cmd, job, state, limit)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only these states, with commas between: claimed, running, ok, failed, killed, launch-failed, no-targets, unfinished")
	cmd.Flags().StringVar(&job, "job", "", "only the runs of this job (for jobs named like a command)")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many")
	cmd.AddCommand(c.runsShowCommand(), c.runsMachinesCommand())
	return cmd
}

func (c *cli) listRuns(cmd *cobra.Command, job, state string, limit int) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	ctx, cancel := c.within(cmd.Context())
	defer cancel()
	query := url.Values{}
	if job != "" {
		query.Set("job", job)
	}
	if state != "" {
		query.Set("state", state)
	}
	runs, err := cl.Runs(ctx, query, limit)
	if err != nil {
		return err
	}
	if len(runs.Items) == 0 && job != "" {
		if _, err := cl.Job(ctx, job); err != nil {
			return missingJob(ctx, cl, job, err)
		}
	}
	if c.json() {
		return printList(c, runs)
	}
	return c.showRuns(runs)
}

func (c *cli) showRuns(runs client.List[api.Run]) error {
	if len(runs.Items) == 0 {
		c.say("no runs\n")
		return nil
	}
	t := &table{head: []string{"RUN", "STARTED", "BY", "TOOK", "RESULT", "NOTE"}}
	for i := range runs.Items {
		r := &runs.Items[i]
		t.row(r.ID, c.when(r.Claimed), r.Actor, c.span(r.Claimed, r.Ended), c.result(r), note(r))
	}
	if err := c.show(t); err != nil {
		return err
	}
	if runs.Next != "" {
		c.say("there are more: --limit\n")
	}
	return nil
}

func note(r *api.Run) string {
	var parts []string
	for _, part := range []string{r.Note, r.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " · ")
}

func (c *cli) runsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.Run(ctx, args[0])
			if err != nil {
				return missingRun(ctx, cl, args[0], err)
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.showRun(&answer.Value)
		},
	}
}

func (c *cli) showRun(r *api.Run) error {
	killed := ""
	if r.KilledBy != "" {
		killed = stamp(r.Killed) + " by " + r.KilledBy
	}
	back := ""
	if r.Back > 0 {
		back = plural(r.Back, "machine") + " taken for lost still run the command"
	}
	return c.sheet([][2]string{
		{"Run", r.ID}, {"Job", r.Job}, {"State", r.State + okOf(r)}, {"Why", r.Text},
		{"Scheduled", stamp(r.Scheduled)}, {"Claimed", stamp(r.Claimed)}, {"Started", stamp(r.Started)}, {"Ended", stamp(r.Ended)},
		{"Took", c.span(r.Claimed, r.Ended)}, {"By", r.Actor + " (" + r.Cause + ", " + r.Origin + ")"}, {"Note", r.Note},
		{"Machines", counts(r)}, {"Killed", killed}, {"Back", back}, {"Digest", r.Digest},
	})
}

// counts tells the machines of a run by state, in the order of the states.
func counts(r *api.Run) string {
	parts := []string{fmt.Sprintf("%d", r.Counts["total"])}
	for _, s := range saltpeter.TargetStates() {
		if n := r.Counts[s.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", s, n))
		}
	}
	return strings.Join(parts, " · ")
}

func (c *cli) runsMachinesCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "machines RUN",
		Short: "List the machines of a run",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			query := url.Values{}
			if state != "" {
				query.Set("state", state)
			}
			machines, err := cl.Machines(ctx, args[0], query, 0)
			if err != nil {
				return missingRun(ctx, cl, args[0], err)
			}
			if c.json() {
				return printList(c, machines)
			}
			return c.showMachines(machines.Items)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only these states, with commas between, as failed,lost or unfinished")
	return cmd
}

func (c *cli) showMachines(machines []api.Machine) error {
	if len(machines) == 0 {
		c.say("no machines\n")
		return nil
	}
	t := &table{head: []string{"MACHINE", "STATE", "CODE", "STARTED", "TOOK", "OUTPUT", "REMARK"}}
	for i := range machines {
		m := &machines[i]
		code := "-"
		if m.Code != nil {
			code = fmt.Sprint(*m.Code)
		}
		t.row(m.Machine, machineState(m), code, c.when(m.Started), c.span(m.Started, m.Ended), size(m.Stored), remark(m))
	}
	return c.show(t)
}

func machineState(m *api.Machine) cell {
	switch {
	case m.State == "ok":
		return cell{m.State, green}
	case !m.Final():
		return cell{m.State, blue}
	case m.State == "maintenance":
		return cell{m.State, yellow}
	}
	return cell{m.State, red}
}

// remark tells what is unusual about a machine.
func remark(m *api.Machine) string {
	var parts []string
	add := func(is bool, text string) {
		if is {
			parts = append(parts, text)
		}
	}
	add(m.Presumed, "presumed")
	add(m.Replaced, "replaces a presumed result")
	add(m.Back, "came back, still runs")
	add(m.TwoHosts, "two hosts use this id")
	add(m.Killing && !m.Final(), "being killed")
	add(m.Signal != 0, fmt.Sprintf("signal %d", m.Signal))
	add(m.LeftOut > 0, size(m.LeftOut)+" of output left out")
	add(m.Text != "", m.Text)
	return strings.Join(parts, " · ")
}

// missingRun adds guesses to the error of a run that is not there: the newest run of the job whose name was given.
func missingRun(ctx context.Context, cl *client.Client, id string, err error) error {
	e, ok := errors.AsType[*saltpeter.Error](err)
	if !ok || e.Code != saltpeter.CodeNotFound {
		return err
	}
	if _, found := cl.Run(ctx, id); found == nil {
		return err // something of that run is missing, not the run
	}
	job := id
	if i := strings.LastIndexByte(id, '_'); i > 0 {
		if _, unknown := cl.Job(ctx, id); unknown != nil {
			job = id[:i]
		}
	}
	runs, failed := cl.Runs(ctx, url.Values{"job": {job}}, 1)
	if failed != nil {
		return err
	}
	if len(runs.Items) == 0 {
		return e.WithHint("%s", meant(nearestJob(ctx, cl, job), "see: spctl runs"))
	}
	return e.WithHint("the newest run of %s is %s\nsee: spctl runs %s", job, runs.Items[0].ID, quote(job))
}
