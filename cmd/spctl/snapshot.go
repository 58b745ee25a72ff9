package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/internal/backup"
)

func (c *cli) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the cluster's record to a file, look at one, restore it",
		Args:  c.noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.snapshotSave(), &cobra.Command{
		Use: "inspect FILE", Short: "Check a backup and tell what it holds; needs no node", Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return c.inspect(args[0]) },
	}, c.snapshotRestore())
	return cmd
}

func (c *cli) snapshotSave() *cobra.Command {
	var output, stale, force bool
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Save the record: jobs in force, runs, results, maintenance; with --with-output the output too", Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.follow(cmd.Context())
			defer cancel()
			if _, err := os.Lstat(args[0]); err == nil && !force {
				return saltpeter.Errorf(saltpeter.CodeConflict, "%s exists already", args[0]).WithHint("--force writes over it")
			}
			about, totals, err := saveFile(ctx, cl, args[0], output, stale)
			if err != nil {
				return err
			}
			return c.showBackup("wrote "+args[0], args[0], about, totals)
		},
	}
	cmd.Flags().BoolVar(&output, "with-output", false, "also the output of all runs")
	cmd.Flags().BoolVar(&stale, "stale", false, "as the node that is asked knows it: works without a leader")
	cmd.Flags().BoolVar(&force, "force", false, "write over an existing file")
	return cmd
}

// saveFile writes a backup that is checked, so that path is a whole one or what it was.
func saveFile(ctx context.Context, cl *client.Client, path string, output, stale bool) (about backup.About, totals backup.Totals, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return about, totals, fileError("write", path, err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := cl.SaveSnapshot(ctx, f, output, stale); err != nil {
		return about, totals, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return about, totals, fileError("read", path, err)
	}
	if about, totals, err = backup.Read(f, nil); err != nil {
		return about, totals, saltpeter.Errorf(saltpeter.CodeUnavailable, "the backup broke off: %w", err).WithHint("try again; the node's log tells more")
	}
	if err = errors.Join(f.Sync(), os.Rename(f.Name(), path)); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return about, totals, fileError("write", path, err)
	}
	return about, totals, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fileError(verb, path string, err error) error {
	code := saltpeter.CodeInternal
	if errors.Is(err, fs.ErrNotExist) {
		code = saltpeter.CodeNotFound
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return saltpeter.Errorf(code, "%s %s: %w", verb, path, err)
}

// backupInfo is what -o json tells of a backup.
type backupInfo struct {
	File   string        `json:"file"`
	Backup backup.About  `json:"backup"`
	Totals backup.Totals `json:"totals"`
}

func (c *cli) showBackup(begin, path string, about backup.About, totals backup.Totals) error {
	if c.json() {
		return c.printValue(backupInfo{path, about, totals})
	}
	output := "without output"
	if about.Output {
		output = "output " + size(totals.Output)
	}
	bytes := ""
	if info, err := os.Stat(path); err == nil {
		bytes = size(uint64(info.Size())) + ", "
	}
	return c.print("%s %sindex %d, term %d, %s, %s, %s, %s, sha256 %s\n", printable(begin), bytes, about.Index, about.Term,
		plural(about.Jobs, "job"), plural(about.Runs, "run"), plural(about.Targets, "machine"), output, totals.SHA256)
}

func (c *cli) inspect(path string) error {
	about, totals, err := readBackup(path)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printValue(backupInfo{path, about, totals})
	}
	err = c.print("Cluster   %s, epoch %d\nSaved     %s on %s (version %s)\n", printable(about.Cluster), about.Epoch,
		stamp(api.Time(about.Created)), printable(about.Node), printable(about.Program))
	if err != nil {
		return err
	}
	return c.showBackup("Holds    ", path, about, totals)
}

// readBackup checks a whole file.
func readBackup(path string) (backup.About, backup.Totals, error) {
	f, err := os.Open(path)
	if err != nil {
		return backup.About{}, backup.Totals{}, fileError("read", path, err)
	}
	defer f.Close()
	about, totals, err := backup.Read(f, nil)
	return about, totals, explainBackup(path, err)
}

func explainBackup(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backup.ErrForeign):
		return saltpeter.Errorf(saltpeter.CodeInvalid, "%s is %w", path, err).WithHint("backups are made by: spctl snapshot save FILE")
	case errors.Is(err, backup.ErrNewer):
		return saltpeter.Errorf(saltpeter.CodeInvalid, "%s: %w", path, err).WithHint("use the spctl and the nodes of the version that saved it")
	case errors.Is(err, backup.ErrDamaged):
		return saltpeter.Errorf(saltpeter.CodeInvalid, "%s: %w", path, err).WithHint("take another backup; compare its sha256 with what snapshot save printed")
	}
	return fileError("read", path, err)
}

func (c *cli) snapshotRestore() *cobra.Command {
	var yes, dry, foreign bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Replace the record of the running cluster, on all nodes, by a saved one", Args: exactly("FILE"),
		Long: "Replace the record of the running cluster, on all nodes, by a saved one. A new epoch begins: whatever was unfinished in the " +
			"backup ends as 253 (restored), ticks up to now are decided, and maintenance is on, so that nothing starts until it is lifted. " +
			"Commands that run on machines are not touched.",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, _, err := readBackup(args[0]) // before anything is asked
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := c.follow(cmd.Context())
			defer cancel()
			return c.restore(ctx, cl, args[0], about, restoreFlags{yes, dry, foreign})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "check the file against the cluster, and tell what would be done")
	cmd.Flags().BoolVar(&foreign, "foreign", false, "also the backup of another cluster, whose place this one takes")
	return cmd
}

type restoreFlags struct{ yes, dry, foreign bool }

func (c *cli) restore(ctx context.Context, cl *client.Client, path string, about backup.About, f restoreFlags) error {
	plan, err := sendBackup(ctx, cl, path, true, f.foreign)
	if err != nil {
		return err
	}
	if f.dry && c.json() {
		return c.printJSON(plan.Raw)
	}
	p := plan.Value
	age := c.now().Sub(time.UnixMilli(about.Created)).Round(time.Second)
	c.say("This REPLACES the record of cluster %s (index %d → %d, saved %s ago) on %s.\n", printable(p.Cluster), p.Before, about.Index, took(max(age, 0)), plural(p.Members, "node"))
	if about.Cluster != p.Cluster {
		c.say("The backup is of another cluster: %s.\n", printable(about.Cluster))
	}
	c.say("%s in progress now are forgotten or end as 253 (restored) if the backup has them; their commands go on. Maintenance will be on.\n", plural(p.Unfinished, "run"))
	if f.dry {
		c.say("Nothing was changed (--dry-run).\n")
		return nil
	}
	if !f.yes {
		if err := c.confirm("the cluster's UUID", p.Cluster); err != nil {
			return err
		}
	}
	answer, err := sendBackup(ctx, cl, path, false, f.foreign)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	return c.showRestored(&answer.Value)
}

func (c *cli) showRestored(r *api.Restored) error {
	text := fmt.Sprintf("restored on %d/%d nodes (epoch %d, index %d); maintenance is ON so nothing starts. Check, then: spctl maintenance off --all\n", r.Reached, r.Members, r.Epoch, r.Index)
	if r.Ended > 0 {
		text += plural(r.Ended, "machine") + " that were unfinished in the backup ended as 253 (restored)\n"
	}
	if r.LeftOut > 0 {
		text += size(r.LeftOut) + " of output are not there: neither the backup nor the cluster has them\n"
	}
	if r.Reached < r.Members {
		text += "the other nodes restore when they are back\n"
	}
	return c.print("%s", text)
}

func sendBackup(ctx context.Context, cl *client.Client, path string, dry, foreign bool) (client.Answer[api.Restored], error) {
	f, err := os.Open(path)
	if err != nil {
		return client.Answer[api.Restored]{}, fileError("read", path, err)
	}
	defer f.Close()
	return cl.RestoreSnapshot(ctx, f, dry, foreign)
}

// confirm has a person type something before what can't be undone.
func (c *cli) confirm(what, want string) error {
	if !c.asks {
		return saltpeter.Errorf(saltpeter.CodeConflict, "this is not done without being asked for twice").WithHint("there is no terminal to ask on: give -y")
	}
	c.say("Type %s to go on (%s): ", what, printable(want))
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil && line == "" || strings.TrimSpace(line) != want {
		c.say("\n")
		return saltpeter.Errorf(saltpeter.CodeConflict, "that is not %s: nothing was changed", what)
	}
	return nil
}
