package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) pauseCommand() *cobra.Command {
	var reason, length string
	cmd := &cobra.Command{
		Use:   "pause JOB",
		Short: "Keep a job from running until it is resumed",
		Args:  exactly("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := duration("--for", length)
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.Pause(ctx, args[0], client.Span{For: d, Reason: reason})
			if err != nil {
				return missingJob(ctx, cl, args[0], err)
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.print("%s is paused %s; resume it with: spctl jobs resume %s\n", printable(args[0]), c.until(&answer.Value), quote(args[0]))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	cmd.Flags().StringVar(&length, "for", "", "for how long, as 90s, 5m, 2h (until it is resumed)")
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume JOB",
		Short: "End the pause of a job",
		Args:  exactly("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.Resume(ctx, args[0])
			if err != nil {
				return missingJob(ctx, cl, args[0], err)
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			if answer.Value.Lifted == 0 {
				return c.print("%s was not paused\n", printable(args[0]))
			}
			return c.print("%s is resumed\n", printable(args[0]))
		},
	}
}

// until tells how long a window lasts.
func (c *cli) until(w *api.Window) string {
	if w.Until == 0 {
		return "until it is lifted"
	}
	return "until " + stamp(w.Until) + " (" + round(w.Until.Time().Sub(c.now())) + ")"
}

// duration reads a flag; an empty one is 0.
func duration(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := api.ParseDuration(text)
	if err != nil || d == 0 {
		return 0, usage("%s %q is not a duration", flag, text).WithHint("write seconds, or 90s, 5m, 2h, 7d")
	}
	return d, nil
}
