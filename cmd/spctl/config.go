package main

import (
	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/config"
)

// checked is what spctl config check -o json shows.
type checked struct {
	Valid    bool                `json:"valid"`
	Jobs     int                 `json:"jobs"`
	Files    int                 `json:"files"`
	Problems []saltpeter.Problem `json:"problems"`
}

func (c *cli) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check configuration files",
		Args:  c.noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.configCheckCommand())
	return cmd
}

func (c *cli) configCheckCommand() *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Check the *.yaml files of a directory (/etc/saltpeter); needs no node",
		Long: "Check the *.yaml files of a directory (/etc/saltpeter) without a node. The exit code is 8 if they could not go into force.\n\n" +
			"With --online a node has its launcher match every job's targets too: an unknown nodegroup or a malformed compound is an error, " +
			"an expression that matches no machine, or a list with a machine that nobody knows, a warning.",
		Args: between(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "/etc/saltpeter"
			if len(args) == 1 {
				dir = args[0]
			}
			result := config.Load(dir)
			if online {
				ctx, cancel := c.within(cmd.Context())
				defer cancel()
				if err := c.checkTargets(ctx, result); err != nil {
					return err
				}
			}
			return c.showChecked(result)
		},
	}
	cmd.Flags().BoolVar(&online, "online", false, "ask a node what the jobs' targets match")
	return cmd
}

func (c *cli) showChecked(result *config.Result) error {
	var err error
	if c.json() {
		err = c.printValue(checked{
			Valid: result.OK(), Jobs: result.Counts.Jobs, Files: result.Counts.Files,
			Problems: append([]saltpeter.Problem{}, result.Problems...),
		})
	} else {
		err = c.print("%s", result)
	}
	if err == nil && !result.OK() {
		return exitError(exitInvalidConfig)
	}
	return err
}
