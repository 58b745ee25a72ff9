package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [MACHINE...]",
		Short: "Say what is wrong between the nodes, Salt and machines, and what to do",
		Long: "Say what is wrong between the node that answers, Salt and machines, one thing on a line, the worst first, each with what to do. " +
			"Machines that are named are pinged and asked, by a Salt job of ours, whether their wrapper is installed, can read its key and reaches the nodes. " +
			"No job of yours is started. The exit code is 1 if a check fails.",
		RunE: c.asking(c.doctor),
	}
}

func (c *cli) doctor(ctx context.Context, cl *client.Client, machines []string) error {
	answer, err := cl.Doctor(ctx, machines)
	if err != nil {
		return err
	}
	if c.json() {
		err = c.printJSON(answer.Raw)
	} else {
		err = c.showDiagnosis(&answer.Value)
	}
	if err == nil && !answer.Value.Healthy {
		return exitError(exitFailed)
	}
	return err
}

func (c *cli) showDiagnosis(h *api.Health) error {
	colors := map[string]string{api.LevelOK: green, api.LevelWarn: yellow, api.LevelFail: red}
	t := &table{head: []string{"LEVEL", "CHECK", "WHERE", "FOUND"}}
	for i := range h.Checks {
		k := &h.Checks[i]
		where, found := k.Node+k.Machine, k.Text // never both
		if k.Hint != "" {
			found += ": " + k.Hint
		}
		t.row(cell{k.Level, colors[k.Level]}, k.Check, where, found)
	}
	return c.show(t)
}
