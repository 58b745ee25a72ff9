package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the node, the cluster and the configuration are",
		Long:  "Show how the node, the cluster and the configuration are. The exit code is 1 while something is broken or no leader is known.",
		Args:  exactly(),
		RunE:  c.runStatus,
	}
}

func (c *cli) runStatus(cmd *cobra.Command, _ []string) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	ctx, cancel := c.within(cmd.Context())
	defer cancel()
	answer, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		err = c.printJSON(answer.Raw)
	} else {
		err = c.showStatus(&answer.Value)
	}
	if err == nil && (len(answer.Value.Faults) > 0 || answer.Value.Cluster.Leader == "") {
		return exitError(exitFailed)
	}
	return err
}

func (c *cli) showStatus(s *api.Status) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%s %s\n", c.paint(faint, fmt.Sprintf("%-11s", name)), printable(fmt.Sprintf(format, args...)))
	}
	up := "-"
	if s.Node.Started != 0 {
		up = round(s.Time.Time().Sub(s.Node.Started.Time()))
	}
	line("Node", "%s · %s · up %s · version %s", s.Node.Name, s.Node.Role, up, s.Version)
	leader := "no leader"
	if s.Cluster.Leader != "" {
		leader = "leader " + s.Cluster.Leader
	}
	line("Cluster", "%s · %s · term %d", plural(max(len(s.Cluster.Members), 1), "node"), leader, s.Cluster.Term)
	line("Jobs", "%d · %d paused", s.Jobs.Total, s.Jobs.Paused)
	line("Runs", "%d in progress · last: %s", s.Runs.Unfinished, c.lastRun(s.Runs.Last))
	line("Config", "%s", c.configLine(&s.Config))
	launcher := s.Launcher.Kind
	if s.Launcher.Problem != "" {
		launcher += " · " + s.Launcher.Problem
	}
	line("Launcher", "%s", launcher)
	for _, m := range s.Launcher.Masters {
		line("Salt master", "%s", masterLine(&m))
	}
	if err := c.print("%s", b.String()); err != nil {
		return err
	}
	if len(s.Cluster.Members) > 1 {
		if err := c.showMembers(s); err != nil {
			return err
		}
	}
	return c.showWarnings(s)
}

func (c *cli) lastRun(r *api.Run) string {
	if r == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s %s", r.ID, r.State, c.when(r.Claimed))
}

func (c *cli) configLine(i *api.ConfigInfo) string {
	if i.Revision == 0 {
		return "none is in force yet"
	}
	return fmt.Sprintf("revision %d · since %s · from %s", i.Revision, c.when(i.Since), i.Actor)
}

func (c *cli) showMembers(s *api.Status) error {
	t := &table{head: []string{"NODE", "ROLE", "VOTER", "ADDRESS", "VERSION", "APPLIED", "CONTACT", "CLOCK"}}
	for _, m := range s.Cluster.Members {
		role, voter := "follower", "no"
		if m.Leader {
			role = "leader"
		}
		if m.Voter {
			voter = "yes"
		}
		t.row(m.Name, role, voter, m.Address, m.Version, m.Applied, millis(m.ContactMillis, "%dms"), millis(m.ClockMillis, "%+dms"))
	}
	return c.show(t)
}

func millis(n *int64, format string) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprintf(format, *n)
}

// showWarnings says what somebody should look at.
func (c *cli) showWarnings(s *api.Status) error {
	var lines []cell
	add := func(color, format string, args ...any) {
		lines = append(lines, cell{fmt.Sprintf(format, args...), color})
	}
	if s.Stale {
		add(red, "this is what the node knows by itself: nothing new starts until there is a leader")
	}
	for _, f := range s.Faults {
		add(red, "%s", f)
	}
	if s.Forming != "" {
		add(yellow, "%s", s.Forming)
	}
	if c.warned = s.Banner != ""; c.warned {
		add(yellow, "%s", s.Banner)
	}
	for i := range s.Maintenance {
		add(yellow, "%s", c.windowLine(&s.Maintenance[i]))
	}
	for _, p := range s.Config.Problems {
		color := yellow
		if p.Level == "error" {
			color = red
		}
		add(color, "%s", p)
	}
	if n := s.Runs.DroppedEarly; n > 0 {
		add(yellow, "%s went before history_age and history_runs would have it: raise history_targets or output_total", plural(int(n), "run"))
	}
	if !s.Config.Valid {
		add(red, "the files have errors: the last good configuration stays in force; see: spctl config check")
	}
	for _, l := range lines {
		if err := c.print("%s\n", c.paint(l.color, "! "+printable(l.text))); err != nil {
			return err
		}
	}
	return nil
}

// windowLine tells a maintenance in one line.
func (c *cli) windowLine(w *api.Window) string {
	what := "everything"
	if w.Scope != "all" {
		what = w.Scope + " " + w.Name
	}
	line := "maintenance of " + what
	switch {
	case w.File:
		line += " from the configuration files"
	case w.Until != 0:
		line += fmt.Sprintf(" until %s (%s) by %s", stamp(w.Until), c.when(w.Until), w.Actor)
	default:
		line += fmt.Sprintf(" since %s until it is lifted, by %s", c.when(w.From), w.Actor)
	}
	if w.Reason != "" {
		line += fmt.Sprintf(" — %q", w.Reason)
	}
	return line
}

// masterLine says how a Salt master is.
func masterLine(m *api.SaltMaster) string {
	if m.Problem != "" {
		return m.Problem
	}
	text := m.Name + " ok"
	if m.Version != "" {
		text += fmt.Sprintf(" (Salt %s, ping %d ms, %s)", m.Version, m.PingMillis, plural(m.Minions, "minion"))
	}
	if m.Waiting > 0 {
		text += fmt.Sprintf(" · %s waiting", plural(m.Waiting, "call"))
	}
	if m.Notes != "" {
		text += " · " + m.Notes
	}
	return text
}
