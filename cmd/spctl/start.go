package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) startCommand() *cobra.Command {
	var machines []string
	var req client.Start
	var follow bool
	cmd := &cobra.Command{
		Use:   "start JOB",
		Short: "Start a run of a job now",
		Long:  "Start a run of a job now. With --follow it shows states and output until the run is finished, and exits with 1 if it is not ok.",
		Args:  exactly("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Machines, err = machineNames(cmd, machines); err != nil {
				return err
			}
			if req.Key == "" && cmd.Flags().Changed("idempotency-key") {
				return usage("--idempotency-key is empty")
			}
			req.Job = args[0]
			return c.startRun(cmd.Context(), req, follow)
		},
	}
	addMachines(cmd, &machines)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show states and output until the run is finished")
	cmd.Flags().StringVar(&req.Note, "note", "", "why; it is kept with the run")
	cmd.Flags().StringVar(&req.Key, "idempotency-key", "", "the same key gives the same run for 24 hours")
	return cmd
}

func (c *cli) startRun(ctx context.Context, req client.Start, follow bool) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	if req.Key == "" {
		// A key of its own makes the request safe to repeat when an answer is lost.
		req.Key = "spctl-" + rand.Text()
	}
	ask, cancel := c.within(ctx)
	defer cancel()
	answer, err := cl.Start(ask, req)
	if err != nil {
		return missingJob(ask, cl, req.Job, err)
	}
	if !follow {
		if c.json() {
			return c.printJSON(answer.Raw)
		}
		return c.print("started %s; see: spctl logs -f %s\n", printable(answer.Value.ID), quote(answer.Value.ID))
	}
	return c.followStart(ctx, cl, &answer.Value)
}

// followStart shows a run until it is finished; one that is not ok is a failure.
func (c *cli) followStart(ctx context.Context, cl *client.Client, started *api.Run) error {
	ctx, cancel := c.follow(ctx)
	defer cancel()
	if !c.json() {
		c.say("%s %s by %s\n", c.paint(blue, "▶"), printable(started.ID), printable(started.Actor))
	}
	f := newFollower(c, cl, started.ID, nil)
	f.states, f.silent = !c.json(), c.json()
	run, err := f.follow(ctx)
	if err != nil {
		return c.leave(started.ID, err)
	}
	if c.json() {
		if err := c.printJSON(run.Raw); err != nil {
			return err
		}
	} else {
		c.sayEnd(&run.Value)
	}
	if run.Value.State != saltpeter.RunOK.String() {
		return exitError(exitFailed)
	}
	return nil
}

// leave tells, when the following ends before the run, that the run does not.
func (c *cli) leave(run string, err error) error {
	if !c.json() && (isCanceled(err) || errors.Is(err, context.DeadlineExceeded) || saltpeter.CodeOf(err) == saltpeter.CodeTimeout) {
		c.say("the run goes on; kill it with: spctl kill %s\n", quote(run))
	}
	return err
}

// sayEnd tells how a run went.
func (c *cli) sayEnd(r *api.Run) {
	mark := c.paint(red, "✗")
	if r.State == saltpeter.RunOK.String() {
		mark = c.paint(green, "✓")
	}
	text := r.State
	if n := r.Counts["counted"]; n > 0 {
		text = fmt.Sprintf("%s: %d of %d succeeded", r.State, r.Counts["ok"], n)
	}
	if r.Text != "" {
		text += " — " + r.Text
	}
	c.say("%s %s in %s\n", mark, printable(text), c.span(r.Claimed, r.Ended))
}
