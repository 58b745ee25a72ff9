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
	cmd.AddCommand(&cobra.Command{
		Use:   "check [DIR]",
		Short: "Check the *.yaml files of a directory (/etc/saltpeter); needs no node",
		Long:  "Check the *.yaml files of a directory (/etc/saltpeter) without a node. The exit code is 8 if they could not go into force.",
		Args:  between(0, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "/etc/saltpeter"
			if len(args) == 1 {
				dir = args[0]
			}
			return c.checkConfig(dir)
		},
	})
	return cmd
}

func (c *cli) checkConfig(dir string) error {
	result := config.Load(dir)
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
