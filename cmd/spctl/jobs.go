package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
)

func (c *cli) jobsCommand() *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List the jobs in force; show, targets, explain, skips, pause, resume",
		Args:  c.noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			query := url.Values{}
			if group != "" {
				query.Set("group", group)
			}
			jobs, err := cl.Jobs(ctx, query, 0)
			if err != nil {
				return err
			}
			if c.json() {
				return printList(c, jobs)
			}
			return c.showJobs(jobs.Items)
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "only the jobs of this group")
	cmd.AddCommand(c.jobsShowCommand(), c.skipsCommand(), c.targetsCommand(), c.explainCommand(), c.pauseCommand(), c.resumeCommand())
	return cmd
}

func (c *cli) showJobs(jobs []api.Job) error {
	if len(jobs) == 0 {
		c.say("no jobs\n")
		return nil
	}
	t := &table{head: []string{"JOB", "GROUP", "SCHEDULE", "LAST", "TOOK", "RESULT", "NEXT"}}
	for i := range jobs {
		j := &jobs[i]
		last, span, result := "-", "-", cell{"-", plain}
		if r := j.LastRun; r != nil {
			last, span, result = c.when(r.Claimed), c.span(r.Claimed, r.Ended), c.result(r)
		}
		t.row(j.Name, j.Group, j.Schedule.Words, last, span, result, c.next(j))
	}
	return c.show(t)
}

// next tells when a job is due, or why it is not.
func (c *cli) next(j *api.Job) cell {
	switch {
	case j.Paused != nil && j.Paused.Active:
		return cell{"paused", yellow}
	case j.Never:
		return cell{"never", yellow}
	default:
		return cell{c.when(j.Next), plain}
	}
}

// result tells a run's state in one word, with the machines that are ok out of those that count.
func (c *cli) result(r *api.Run) cell {
	var color string
	switch r.State {
	case "ok":
		color = green
	case "running", "claimed":
		color = blue
	default:
		color = red
	}
	return cell{r.State + okOf(r), color}
}

func okOf(r *api.Run) string {
	if r.Counts["total"] == 0 {
		return ""
	}
	return fmt.Sprintf(" %d/%d", r.Counts["ok"], r.Counts["total"]-r.Counts["maintenance"])
}

func (c *cli) jobsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show JOB",
		Short: "Show one job: definition, schedule, last run",
		Args:  exactly("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.Job(ctx, args[0])
			if err != nil {
				return missingJob(ctx, cl, args[0], err)
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.showJob(&answer.Value)
		},
	}
}

func (c *cli) showJob(j *api.Job) error {
	last := "-"
	if j.LastRun != nil {
		last = j.LastRun.ID + " " + c.result(j.LastRun).text + " " + c.when(j.LastRun.Claimed)
	}
	return c.sheet([][2]string{
		{"Job", j.Name}, {"Group", j.Group},
		{"Schedule", j.Schedule.Words + " · " + j.Schedule.Expr + " · " + j.Schedule.Timezone + " · days: " + j.Schedule.DayMatch},
		{"Next", c.next(j).text},
		{"Targets", j.TargetType + ": " + strings.Join(j.Targets, ", ")},
		{"Command", j.Command}, {"User", j.User}, {"Cwd", j.Cwd},
		{"Last", last}, {"Skipped", fmt.Sprint(j.Skipped)}, {"Source", j.Source},
		{"Revision", fmt.Sprintf("%d · digest %s", j.Revision, j.Digest)},
	})
}

// sheet writes names and values under each other; what is empty is left out.
func (c *cli) sheet(lines [][2]string) error {
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if err := c.print("%s %s\n", c.paint(faint, fmt.Sprintf("%-10s", l[0])), printable(l[1])); err != nil {
			return err
		}
	}
	return nil
}
