package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) eventsCommand() *cobra.Command {
	want := client.EventsAfter{Since: "0"}
	var since string
	cmd := &cobra.Command{
		Use:   "events [-f] [--topics LIST] [--since ID]",
		Short: "Show what happened: runs, machines, skipped ticks, maintenance, the cluster",
		Long: "Show what happened, one event a line. With -f go on with what happens, from now on unless --since says otherwise; " +
			"a node that dies meanwhile costs nothing, another goes on after the last event.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case cmd.Flags().Changed("since"):
				want.Since = since
			case want.Follow:
				want.Since = ""
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return c.events(cmd.Context(), cl, want)
		},
	}
	cmd.Flags().BoolVarP(&want.Follow, "follow", "f", false, "go on with what happens")
	cmd.Flags().StringSliceVar(&want.Topics, "topics", nil, "only these: runs, machines, skips, maintenance, cluster, job:NAME, run:ID")
	cmd.Flags().StringVar(&since, "since", "0", "only what came after the event with this id")
	return cmd
}

func (c *cli) events(ctx context.Context, cl *client.Client, want client.EventsAfter) error {
	ctx, cancel := c.follow(ctx)
	defer cancel()
	return cl.Events(ctx, want, func(e client.StreamEvent) error {
		if e.Gap != nil {
			c.say("events after %s are not there any more\n", printable(e.Gap.Since))
			return nil
		}
		if c.json() {
			return c.printJSON(e.Raw)
		}
		return c.print("%s\n", eventLine(&e.Event))
	})
}

// eventLine says what an event tells.
func eventLine(e *api.Event) string {
	var about []string
	add := func(text string) {
		if text != "" {
			about = append(about, printable(text))
		}
	}
	if e.Run != "" {
		add(e.Run)
	} else {
		add(e.Job)
	}
	add(e.Machine)
	add(e.State)
	if e.Code != nil {
		add(fmt.Sprintf("code %d", *e.Code))
	}
	if e.OK != nil && e.Counted != nil {
		add(fmt.Sprintf("%d/%d", *e.OK, *e.Counted))
	}
	if e.Again {
		add("(after a presumed result)")
	}
	if e.Actor != "" {
		add("by " + e.Actor)
	}
	add(e.Text)
	return fmt.Sprintf("%-9s %s  %-19s %s", e.ID, stamp(e.Time), e.Type, strings.Join(about, "  "))
}
