package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// defaultTimeout bounds every command that does not follow something.
const defaultTimeout = 30 * time.Second

// environment is what spctl takes from its process.
type environment struct {
	in        io.Reader
	out, errs io.Writer
	tty       bool // out is a terminal
	asks      bool // in is one: there is somebody to ask
	env       func(string) string
	now       func() time.Time
	socket    string // the node's unix socket, used where it exists and no address is given
}

// cli is one invocation.
type cli struct {
	environment
	addr    string
	cred    credentials
	warned  bool // that nobody is asked for a token
	format  string
	color   string
	timeout string
	client  *client.Client
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, e environment, args []string) int {
	c := &cli{environment: e, format: "table", color: "auto"}
	root := c.root()
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own
	root.SetOut(e.out)
	root.SetErr(e.errs)
	err := root.ExecuteContext(ctx)
	code := c.finish(ctx, err)
	if c.client != nil {
		c.unguarded(err)
		c.client.Close()
	}
	return code
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "spctl",
		Short: "Operate saltpeter: jobs, runs, output, maintenance",
		Long: "Operate saltpeter: jobs, runs, output, maintenance.\n\nWithout a command it shows the status. " +
			"Nodes are found by --addr, SPCTL_ADDR, the unix socket of this host, or http://127.0.0.1:8888.",
		Args:              c.noCommand,
		RunE:              c.runStatus,
		PersistentPreRunE: c.checkFlags,
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w", err).WithHint("see: %s --help", cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.addr, "addr", "", "nodes: http://IP:PORT or unix:///PATH, several with commas between (SPCTL_ADDR)")
	flags.StringVar(&c.cred.file, "token-file", "", "file with a token of the API (SPCTL_TOKEN_FILE; SPCTL_TOKEN holds the token itself)")
	flags.StringVar(&c.cred.token, "token", "", "a token itself: every user of this host can see it here")
	flags.StringVarP(&c.format, "output", "o", c.format, "table or json")
	flags.StringVar(&c.color, "color", c.color, "auto, always or never (NO_COLOR, CLICOLOR_FORCE)")
	flags.StringVar(&c.timeout, "timeout", "", "give up after this time, as 90, 90s or 5m (30s; no limit while following)")
	root.AddCommand(c.statusCommand(), c.jobsCommand(), c.startCommand(), c.runsCommand(), c.logsCommand(), c.eventsCommand(), c.killCommand(),
		c.maintenanceCommand(), c.doctorCommand(), c.clusterCommand(), c.snapshotCommand(), c.tokenCommand(), c.whoamiCommand(), c.keygenCommand(), c.configCommand(), c.versionCommand())
	return root
}

// checkFlags checks the flags that all commands have.
func (c *cli) checkFlags(cmd *cobra.Command, _ []string) error {
	if c.format != "table" && c.format != "json" {
		wrong := c.format
		c.format = "table"
		return usage("unknown output format %q", wrong).WithHint("use -o table or -o json")
	}
	if c.color != "auto" && c.color != "always" && c.color != "never" {
		wrong := c.color
		c.color = "auto"
		return usage("--color %q is unknown", wrong).WithHint("use auto, always or never")
	}
	if _, err := c.limit(); err != nil {
		return err
	}
	return nil
}

// limit gives what --timeout says, 0 where it is not given.
func (c *cli) limit() (time.Duration, error) {
	if c.timeout == "" {
		return 0, nil
	}
	d, err := api.ParseDuration(c.timeout)
	if err != nil || d == 0 {
		return 0, usage("--timeout %q is not a duration", c.timeout).WithHint("write seconds, or 5m, 2h")
	}
	return d, nil
}

// within gives the context of a command that asks and answers.
func (c *cli) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if d, err := c.limit(); err == nil && d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// follow gives the context of a command that follows something: it is bounded only by --timeout.
func (c *cli) follow(ctx context.Context) (context.Context, context.CancelFunc) {
	if d, err := c.limit(); err == nil && d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return context.WithCancel(ctx)
}

// connect gives the client; it does not talk to a node yet.
func (c *cli) connect() (*client.Client, error) {
	if c.client != nil {
		return c.client, nil
	}
	list := c.addr
	if list == "" {
		list = c.env("SPCTL_ADDR")
	}
	if list == "" {
		list = "http://127.0.0.1:8888"
		if info, err := os.Stat(c.socket); err == nil && info.Mode()&os.ModeSocket != 0 {
			list = "unix://" + c.socket
		}
	}
	addrs, err := client.ParseAddrs(list)
	if err != nil {
		return nil, err
	}
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	c.client, err = client.New(client.Config{Addrs: addrs, UserAgent: "spctl/" + version(), Token: secret})
	return c.client, err
}

func (c *cli) json() bool { return c.format == "json" }

// say writes to standard error.
func (c *cli) say(format string, args ...any) {
	fmt.Fprintf(c.errs, format, args...) //nolint:errcheck // there is nowhere left to say it
}

// print writes to standard output.
func (c *cli) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(c.out, format, args...); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// printJSON writes an API object as it came.
func (c *cli) printJSON(raw json.RawMessage) error {
	return c.print("%s\n", raw)
}

// printList writes a list as the API gives it, all its pages in one.
func printList[T any](c *cli, l client.List[T]) error {
	return c.printValue(api.Page[json.RawMessage]{Items: l.Raw, NextCursor: l.Next, Index: l.Index})
}

// printValue writes what is not an answer of a node.
func (c *cli) printValue(v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return c.print("%s", b.String())
}

// exactly takes n arguments, named in the order of the command line.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// between takes the first least arguments, and the others if they are given.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("%s is missing", names[len(args)]).WithHint("usage: %s", cmd.UseLine())
		case len(args) > len(names):
			return usage("%q is too much", args[len(names)]).WithHint("usage: %s", cmd.UseLine())
		}
		for i, arg := range args {
			if arg == "" {
				return usage("%s is empty", names[i]).WithHint("usage: %s", cmd.UseLine())
			}
		}
		return nil
	}
}

// noCommand refuses an argument that is no command, and guesses what was meant.
func (c *cli) noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	e := usage("unknown command %q for %s", args[0], cmd.CommandPath())
	return e.WithHint("%s", meant(nearest(args[0], names), "see: "+cmd.CommandPath()+" --help"))
}

func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }
