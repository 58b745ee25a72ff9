package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// versionWait is how long the version waits for a node.
const versionWait = 2 * time.Second

func version() string { return buildinfo.Version() }

// versions is what spctl version -o json shows.
type versions struct {
	Version string       `json:"version"` // of spctl
	Node    *api.Version `json:"node"`    // null if no node answers
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of spctl and of the node",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), versionWait)
			defer cancel()
			v := versions{Version: version()}
			answer, err := cl.Version(ctx)
			if err == nil {
				v.Node = &answer.Value
			}
			if c.json() {
				return c.printValue(v)
			}
			node := "does not answer"
			if v.Node != nil {
				node = printable(v.Node.Version)
			}
			return c.print("spctl %s\nnode  %s\n", v.Version, node)
		},
	}
}
