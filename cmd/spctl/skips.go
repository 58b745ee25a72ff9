package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
)

func (c *cli) skipsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "skips JOB",
		Short: "List the ticks of a job that had no run, and why",
		Args:  exactly("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			skips, err := cl.Skips(ctx, args[0], 0)
			if err != nil {
				return missingJob(ctx, cl, args[0], err)
			}
			if c.json() {
				return printList(c, skips)
			}
			return c.showSkips(skips.Items)
		},
	}
}

func (c *cli) showSkips(skips []api.Skip) error {
	if len(skips) == 0 {
		c.say("no tick was skipped\n")
		return nil
	}
	t := &table{head: []string{"REASON", "TICKS", "FIRST", "LAST", "DETAIL"}}
	for i := range skips {
		s := &skips[i]
		t.row(cell{s.Reason, yellow}, fmt.Sprint(s.Count), stamp(s.First), stamp(s.Last), s.Detail)
	}
	return c.show(t)
}
