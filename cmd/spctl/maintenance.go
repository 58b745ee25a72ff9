package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) maintenanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "Show, begin and end maintenance: what it covers does not start",
		Args:  c.noCommand,
		RunE:  c.runMaintenance,
	}
	cmd.AddCommand(&cobra.Command{
		Use: "show", Short: "Show the active maintenances", Args: exactly(), RunE: c.runMaintenance,
	}, c.maintenanceOnCommand(), c.maintenanceOffCommand())
	return cmd
}

func (c *cli) runMaintenance(cmd *cobra.Command, _ []string) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	ctx, cancel := c.within(cmd.Context())
	defer cancel()
	windows, err := cl.Maintenance(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		return printList(c, windows)
	}
	if len(windows.Items) == 0 {
		c.say("no maintenance\n")
		return nil
	}
	t := &table{head: []string{"SCOPE", "NAME", "SINCE", "UNTIL", "BY", "REASON"}}
	for i := range windows.Items {
		w := &windows.Items[i]
		until, by := "lifted", w.Actor
		if w.Until != 0 {
			until = c.when(w.Until)
		}
		if w.File {
			until, by = "removed", "configuration files"
		}
		t.row(cell{w.Scope, yellow}, w.Name, c.when(w.From), until, by, w.Reason)
	}
	return c.show(t)
}

// scopeFlags say what a maintenance is about.
type scopeFlags struct {
	all                 bool
	group, job, machine string
}

func (s *scopeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&s.all, "all", false, "all jobs")
	flags.StringVar(&s.group, "group", "", "the jobs of one group")
	flags.StringVar(&s.job, "job", "", "one job")
	flags.StringVarP(&s.machine, "machine", "m", "", "one machine, in all jobs")
}

// scope gives the one scope that is meant.
func (s *scopeFlags) scope(cmd *cobra.Command) (scope, name string, err error) {
	given := 0
	for _, one := range []struct{ flag, scope, name string }{
		{"all", "all", ""}, {"group", "group", s.group}, {"job", "job", s.job}, {"machine", "machine", s.machine},
	} {
		if !cmd.Flags().Changed(one.flag) || one.flag == "all" && !s.all {
			continue
		}
		if one.flag != "all" && one.name == "" {
			return "", "", usage("--%s is empty", one.flag)
		}
		scope, name = one.scope, one.name
		given++
	}
	if given != 1 {
		wrong := "it is not said what the maintenance is about"
		if given > 1 {
			wrong = "one maintenance is about one thing"
		}
		return "", "", usage("%s", wrong).WithHint("give exactly one of --all, --group G, --job J, -m MACHINE")
	}
	return scope, name, nil
}

// covered names what a scope covers.
func covered(scope, name string) string {
	if scope == "all" {
		return "everything"
	}
	return scope + " " + printable(name)
}

func (c *cli) maintenanceOnCommand() *cobra.Command {
	var scope scopeFlags
	var length, reason string
	var forever bool
	cmd := &cobra.Command{
		Use:   "on (--all|--group G|--job J|-m MACHINE) (--for 2h|--forever)",
		Short: "Begin a maintenance; runs in progress go on",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, name, err := scope.scope(cmd)
			if err != nil {
				return err
			}
			d, err := duration("--for", length)
			if err != nil {
				return err
			}
			if forever == (d > 0) {
				return usage("how long is not said, or said twice").WithHint("give --for 2h or --forever")
			}
			return c.maintenanceOn(cmd, what, name, client.Span{For: d, Reason: reason})
		},
	}
	scope.add(cmd)
	cmd.Flags().StringVar(&length, "for", "", "for how long, as 90s, 5m, 2h, 7d")
	cmd.Flags().BoolVar(&forever, "forever", false, "until it is lifted")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (c *cli) maintenanceOn(cmd *cobra.Command, what, name string, span client.Span) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	ctx, cancel := c.within(cmd.Context())
	defer cancel()
	answer, err := cl.MaintenanceOn(ctx, what, name, span)
	if err != nil && what == "job" {
		return missingJob(ctx, cl, name, err)
	}
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	reason := ""
	if answer.Value.Reason != "" {
		reason = fmt.Sprintf(" — %q", answer.Value.Reason)
	}
	if err := c.print("Maintenance ON for %s %s%s\n", covered(what, name), c.until(&answer.Value), printable(reason)); err != nil {
		return err
	}
	status, err := cl.Status(ctx)
	switch {
	case err != nil:
		return nil // the maintenance is on; this was only a remark
	case status.Value.Runs.Unfinished == 1:
		c.say("1 run in progress goes on\n")
	case status.Value.Runs.Unfinished > 1:
		c.say("%d runs in progress go on\n", status.Value.Runs.Unfinished)
	}
	return nil
}

func (c *cli) maintenanceOffCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "off (--all|--group G|--job J|-m MACHINE)",
		Short: "End a maintenance",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, name, err := scope.scope(cmd)
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.MaintenanceOff(ctx, what, name)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.showLifted(what, name, &answer.Value)
		},
	}
	scope.add(cmd)
	return cmd
}

func (c *cli) showLifted(what, name string, l *api.Lifted) error {
	text := "Maintenance OFF for %s\n"
	if l.Lifted == 0 {
		text = "no maintenance was on for %s\n"
	}
	if err := c.print(text, covered(what, name)); err != nil {
		return err
	}
	for i := range l.Active {
		c.say("%s still holds: %s\n", c.paint(yellow, "!"), printable(c.windowLine(&l.Active[i])))
	}
	return nil
}
