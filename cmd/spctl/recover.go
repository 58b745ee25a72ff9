package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
)

// recoverCommand is "saltpeter recover" under the name that it has among the commands about the cluster. The work is that of the
// node's program, which knows what a data directory holds; this one only talks to nodes.
func (c *cli) recoverCommand() *cobra.Command {
	var yes, dry bool
	cmd := &cobra.Command{
		Use:   "recover DIR",
		Short: "Make the stopped node with the data directory DIR the only member, when a majority is lost for good",
		Long: "Make the stopped node of this host the only member of its cluster, when most members are lost for good. DIR is its data directory. " +
			"It runs the saltpeter program beside this one, or the one in PATH: saltpeter recover --data-dir DIR.",
		Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			call := []string{"recover", "--data-dir", args[0]}
			if yes {
				call = append(call, "--yes")
			}
			if dry {
				call = append(call, "--dry-run")
			}
			return c.runNodeProgram(cmd.Context(), call)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "tell what would be done, change nothing")
	return cmd
}

// runNodeProgram runs the saltpeter program in this one's place: its terminal, its answer, its exit code.
func (c *cli) runNodeProgram(ctx context.Context, args []string) error {
	program, err := nodeProgram()
	if err != nil {
		return saltpeter.Errorf(saltpeter.CodeInvalid, "the saltpeter program is neither beside spctl nor in PATH: %w", err).
			WithHint("run on the node's host: saltpeter recover --data-dir %s", args[2])
	}
	run := exec.CommandContext(ctx, program, args...)
	run.Stdin, run.Stdout, run.Stderr = c.in, c.out, c.errs
	err = run.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exitError(exit.ExitCode())
	}
	return err
}

// nodeProgram finds the node's program: what was installed together lies together.
func nodeProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "saltpeter")
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	return exec.LookPath("saltpeter")
}
