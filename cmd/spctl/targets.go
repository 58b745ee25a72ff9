package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) targetsCommand() *cobra.Command {
	var ping bool
	cmd := &cobra.Command{
		Use:   "targets JOB",
		Short: "Show the machines that a job's expression matches now; nothing is started",
		Long: "Show the machines that a job's expression matches now, by what the Salt masters know. Machines that are down are among them, " +
			"and ids of a list that no master has accepted a key of. Nothing is started; with --ping the machines are asked who is up (10 s at most).",
		Args: exactly("JOB"),
		RunE: c.asking(func(ctx context.Context, cl *client.Client, args []string) error {
			answer, err := cl.Targets(ctx, args[0], ping)
			if err != nil {
				return missingJob(ctx, cl, args[0], err)
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.showTargets(&answer.Value)
		}),
	}
	cmd.Flags().BoolVar(&ping, "ping", false, "ask the machines who is up")
	return cmd
}

func (c *cli) showTargets(t *api.JobTargets) error {
	if len(t.Machines) > 0 {
		if err := c.show(targetTable(t)); err != nil {
			return err
		}
	}
	if err := c.print("%s\n", printable(targetSummary(t))); err != nil {
		return err
	}
	remarks := append([]string{}, t.Failed...)
	if t.Maintenance != "" {
		remarks = append(remarks, "the job does not start now: "+t.Maintenance)
	}
	for _, r := range remarks {
		if err := c.print("%s\n", c.paint(yellow, "! "+printable(r))); err != nil {
			return err
		}
	}
	return nil
}

// targetTable lists the machines; a column that says nothing is left out.
func targetTable(t *api.JobTargets) *table {
	salt := t.Launcher == saltpeter.LauncherSalt
	out := &table{head: []string{"MACHINE"}}
	if salt {
		out.head = append(out.head, "MASTER")
	}
	if t.Pinged {
		out.head = append(out.head, "UP")
	}
	out.head = append(out.head, "NOTE")
	for i := range t.Machines {
		m := &t.Machines[i]
		row := []any{m.Machine}
		if salt {
			row = append(row, strings.Join(m.Masters, ", "))
		}
		if t.Pinged {
			row = append(row, upCell(m.Up))
		}
		out.row(append(row, targetNote(t, m))...)
	}
	return out
}

func upCell(up *bool) cell {
	switch {
	case up == nil:
		return cell{"-", plain}
	case *up:
		return cell{"yes", green}
	default:
		return cell{"no", red}
	}
}

func targetNote(t *api.JobTargets, m *api.MatchedMachine) cell {
	if m.Known {
		return cell{m.Maintenance, yellow}
	}
	return cell{unknownText(t.Launcher), red}
}

// unknownText says why a machine is unknown to a launcher.
func unknownText(launcher string) string {
	if launcher == saltpeter.LauncherSalt {
		return "unknown: no master has accepted a key"
	}
	return "unknown: this host does not play it"
}

// targetSummary says what is matched, and what a run would take of it.
func targetSummary(t *api.JobTargets) string {
	up, maintenance := 0, 0
	for i := range t.Machines {
		m := &t.Machines[i]
		if m.Up != nil && *m.Up {
			up++
		}
		if m.Maintenance != "" {
			maintenance++
		}
	}
	parts := []string{fmt.Sprintf("%s: %s matches %s", t.TargetType, strings.Join(t.Targets, ","), plural(len(t.Machines), "machine"))}
	if t.Pinged {
		parts = append(parts, fmt.Sprintf("%d up", up))
	}
	if t.Unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d unknown", t.Unknown))
	}
	if maintenance > 0 {
		parts = append(parts, fmt.Sprintf("%d under maintenance", maintenance))
	}
	if t.NumberOfTargets > 0 {
		parts = append(parts, fmt.Sprintf("a run takes %d that are up and free (number_of_targets)", t.NumberOfTargets))
	}
	if t.Batch != "" {
		parts = append(parts, fmt.Sprintf("%s at a time (batch_size)", t.Batch))
	}
	return strings.Join(parts, " · ")
}
