package main

import (
	"context"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// logFlags are the flags of logs.
type logFlags struct {
	machines    []string
	follow, raw bool
}

func (c *cli) logsCommand() *cobra.Command {
	var f logFlags
	var machines []string
	cmd := &cobra.Command{
		Use:   "logs RUN|JOB [-m MACHINE] [-f]",
		Short: "Show the output of a run, or of the newest run of a job",
		Long: "Show the output of a run, or of the newest run of a job. Where there are several machines, every line is behind the name of its machine. " +
			"With --raw it is the exact bytes of one machine and nothing else.",
		Args: exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if f.machines, err = machineNames(cmd, machines); err != nil {
				return err
			}
			if c.json() {
				return usage("logs has no JSON form").WithHint("use --raw, or GET /api/v1/runs/RUN/machines/MACHINE/output")
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return c.logs(cmd.Context(), cl, args[0], f)
		},
	}
	addMachines(cmd, &machines)
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the run is finished")
	cmd.Flags().BoolVar(&f.raw, "raw", false, "the exact bytes of one machine")
	return cmd
}

func (c *cli) logs(ctx context.Context, cl *client.Client, name string, f logFlags) error {
	ctx, cancel := c.follow(ctx)
	defer cancel()
	run, err := c.findRun(ctx, cl, name)
	if err != nil {
		return err
	}
	if f.follow {
		return c.followLogs(ctx, cl, run, f)
	}
	machines, err := c.logMachines(ctx, cl, run.ID, f.machines)
	switch {
	case err != nil:
		return err
	case len(machines) == 0:
		c.say("run %s is %s and has no machines\n", printable(run.ID), run.State)
		return nil
	case f.raw && len(machines) > 1:
		return manyRaw(machines)
	}
	show := newFollower(c, cl, run.ID, nil)
	for i := range machines {
		m := &machines[i]
		w := show.writer(m.Machine, widest(machines), len(machines) == 1)
		if err := cl.Output(ctx, run.ID, m.Machine, 0, false, w); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		if m.LeftOut > 0 {
			c.say("%s: %s of output were left out (output_limit)\n", printable(m.Machine), size(m.LeftOut))
		}
	}
	return nil
}

func manyRaw(machines []api.Machine) error {
	return usage("--raw gives one machine's bytes, and the run has %d machines", len(machines)).
		WithHint("name one with -m, as %s", quote(machines[0].Machine))
}

func widest(machines []api.Machine) int {
	width := 0
	for i := range machines {
		width = max(width, min(len([]rune(machines[i].Machine)), maxPrefix))
	}
	return width
}

// findRun takes the id of a run, or the name of a job for its newest run.
func (c *cli) findRun(ctx context.Context, cl *client.Client, name string) (*api.Run, error) {
	answer, err := cl.Run(ctx, name)
	if err == nil {
		return &answer.Value, nil
	}
	if saltpeter.CodeOf(err) != saltpeter.CodeNotFound {
		return nil, err
	}
	runs, failed := cl.Runs(ctx, url.Values{"job": {name}}, 1)
	if failed != nil || len(runs.Items) == 0 {
		return nil, missingRun(ctx, cl, name, err)
	}
	c.say("newest run of %s: %s\n", printable(name), printable(runs.Items[0].ID))
	return &runs.Items[0], nil
}

// logMachines gives the machines that were named, all if none was.
func (c *cli) logMachines(ctx context.Context, cl *client.Client, run string, names []string) ([]api.Machine, error) {
	if len(names) == 0 {
		all, err := cl.Machines(ctx, run, nil, 0)
		return all.Items, err
	}
	var machines []api.Machine
	for _, name := range names {
		m, err := cl.Machine(ctx, run, name)
		if err != nil {
			return nil, missingMachine(ctx, cl, run, names, err)
		}
		machines = append(machines, m.Value)
	}
	return machines, nil
}

// followLogs shows output until the run is finished. Whether it is ok is not the question here.
func (c *cli) followLogs(ctx context.Context, cl *client.Client, run *api.Run, f logFlags) error {
	names := f.machines
	if run.Counts["total"] > 0 {
		// A machine that is named wrongly would otherwise be waited for until the run is finished.
		if _, err := c.logMachines(ctx, cl, run.ID, names); err != nil {
			return err
		}
	}
	if f.raw && len(names) > 1 {
		return usage("--raw gives one machine's bytes, and %d are named", len(names))
	}
	follow := newFollower(c, cl, run.ID, names)
	follow.raw = f.raw
	_, err := follow.follow(ctx)
	return err
}
