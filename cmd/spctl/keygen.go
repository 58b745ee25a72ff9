package main

import (
	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/internal/keys"
)

func (c *cli) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Print a new key for a cluster: (umask 077; spctl keygen > FILE)",
		Long: "Print a new key for a cluster. Whoever has it is a node: keep it in a file of mode 0600, the same on every node " +
			"(--key-file, or DATA-DIR/key). It talks to no node.",
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error { return c.print("%s\n", keys.Generate().Hex()) },
	}
}
