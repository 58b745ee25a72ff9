package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) killCommand() *cobra.Command {
	var machines []string
	cmd := &cobra.Command{
		Use:   "kill RUN [-m MACHINE]",
		Short: "Kill a run, or some machines of it: TERM, after the job's kill_grace KILL",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := machineNames(cmd, machines)
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			answer, err := cl.Kill(ctx, args[0], names)
			if err != nil {
				return missingMachine(ctx, cl, args[0], names, missingRun(ctx, cl, args[0], err))
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			return c.print("killing %s of %s; see: spctl runs machines %s\n",
				plural(answer.Value.Killed, "machine"), printable(args[0]), quote(args[0]))
		},
	}
	addMachines(cmd, &machines)
	return cmd
}

func addMachines(cmd *cobra.Command, machines *[]string) {
	cmd.Flags().StringArrayVarP(machines, "machine", "m", nil, "only these machines, with commas between or repeated")
}

// machineNames splits what -m was given.
func machineNames(cmd *cobra.Command, given []string) ([]string, error) {
	var names []string
	for _, list := range given {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 && cmd.Flags().Changed("machine") {
		return nil, usage("-m names no machine")
	}
	return names, nil
}
