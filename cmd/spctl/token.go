package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

func (c *cli) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "List, create and revoke the tokens that the API asks for",
		Long: "List, create and revoke the tokens that the API asks for everywhere but on the unix socket.\n\n" +
			"Roles: viewer reads; operator also starts, kills, pauses and sets maintenance; admin may do everything.",
		Args: c.noCommand,
		RunE: c.asking(func(ctx context.Context, cl *client.Client, _ []string) error { return c.listTokens(ctx, cl, false) }),
	}
	var all bool
	list := &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: exactly(),
		RunE: c.asking(func(ctx context.Context, cl *client.Client, _ []string) error { return c.listTokens(ctx, cl, all) }),
	}
	list.Flags().BoolVar(&all, "all", false, "also those that were revoked not long ago")
	cmd.AddCommand(list, c.tokenCreateCommand(), &cobra.Command{
		Use: "revoke NAME", Short: "End a token: every node refuses it from then on", Args: exactly("NAME"),
		RunE: c.asking(c.revokeToken),
	})
	return cmd
}

func (c *cli) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show as whom the node takes you, and your role", Args: exactly(),
		RunE: c.asking(func(ctx context.Context, cl *client.Client, _ []string) error {
			answer, err := cl.Whoami(ctx)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(answer.Raw)
			}
			w := &answer.Value
			return c.print("%s, role %s (%s)\n", printable(w.Name), w.Role, w.How)
		}),
	}
}

func (c *cli) listTokens(ctx context.Context, cl *client.Client, all bool) error {
	answer, err := cl.Tokens(ctx, all)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	if len(answer.Value.Items) == 0 {
		c.say("no tokens\n")
		return nil
	}
	t := &table{head: []string{"NAME", "ROLE", "STATE", "CREATED", "BY", "EXPIRES"}}
	for _, one := range answer.Value.Items {
		state, expires := cell{one.State, plain}, "never"
		if one.State != "active" {
			state.color = faint
		}
		if one.Expires != 0 {
			expires = c.when(one.Expires)
		}
		t.row(one.Name, one.Role, state, c.when(one.Created), one.Actor, expires)
	}
	return c.show(t)
}

func (c *cli) tokenCreateCommand() *cobra.Command {
	var role, expires string
	cmd := &cobra.Command{
		Use:   "create NAME --role viewer|operator|admin [--expires 90d]",
		Short: "Make a token and print it: it is shown once",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := saltpeter.ParseRole(role); !ok {
				return usage("--role %q is none of viewer, operator, admin", role).WithHint("viewer reads; operator also starts, kills, pauses and sets maintenance; admin may do everything")
			}
			life, err := duration("--expires", expires)
			if err != nil {
				return err
			}
			return c.asking(func(ctx context.Context, cl *client.Client, args []string) error {
				answer, err := cl.CreateToken(ctx, args[0], role, life)
				if err != nil {
					return err
				}
				if c.json() {
					return c.printJSON(answer.Raw)
				}
				made := &answer.Value
				until := "without an end"
				if made.Expires != 0 {
					until = "until " + stamp(made.Expires)
				}
				c.say("token %s, role %s, %s; it is not shown again:\n", printable(made.Name), made.Role, until)
				return c.print("%s\n", made.Secret)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator or admin")
	cmd.Flags().StringVar(&expires, "expires", "", "for how long it is good, as 12h or 90d (for ever)")
	return cmd
}

func (c *cli) revokeToken(ctx context.Context, cl *client.Client, args []string) error {
	answer, err := cl.RevokeToken(ctx, args[0])
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	return c.print("token %s (%s) is revoked\n", printable(answer.Value.Name), answer.Value.Role)
}

// credentials are where a token comes from.
type credentials struct {
	token string // by a flag
	file  string
}

// secret gives the token to send, empty for none: --token, --token-file, SPCTL_TOKEN, SPCTL_TOKEN_FILE.
func (c *cli) secret() (string, error) {
	text, from := c.cred.token, "--token"
	if text != "" {
		c.say("warning: --token shows the token to every user of this host (ps), and to the shell's history: use SPCTL_TOKEN_FILE or --token-file\n")
	}
	if text == "" && c.cred.file == "" {
		text, from = c.env("SPCTL_TOKEN"), "SPCTL_TOKEN"
	}
	if text == "" {
		file, flag := c.cred.file, "--token-file"
		if file == "" {
			file, flag = c.env("SPCTL_TOKEN_FILE"), "SPCTL_TOKEN_FILE"
		}
		if file == "" {
			return "", nil
		}
		var err error
		if text, err = c.secretFile(file); err != nil {
			return "", err
		}
		from = flag + " (" + file + ")"
	}
	text = strings.TrimSpace(text)
	if !api.IsSecret(text) { // which is not shown: it may be a token all the same, with a letter too much
		return "", usage("%s does not hold a token", from).WithHint("a token begins with sp_ and has 51 characters, as spctl token create printed it")
	}
	return text, nil
}

// maxSecretFile bounds what is read of a token's file, in bytes.
const maxSecretFile = 4 << 10

func (c *cli) secretFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", usage("read the token's file: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 && info.Mode().IsRegular() {
		c.say("warning: every user of this host can read %s: chmod 600\n", printable(path))
	}
	if info.Size() > maxSecretFile {
		return "", usage("%s has %d bytes: it is not the file of a token", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usage("read the token's file: %w", err)
	}
	return string(text), nil
}

// unguarded tells on standard error that the cluster lets everybody in. An error as JSON stands alone there.
func (c *cli) unguarded(err error) {
	if _, silent := errors.AsType[exitError](err); err != nil && !silent && c.json() {
		return
	}
	if c.client.Unguarded() && !c.warned {
		c.say("%s\n", c.paint(yellow, fmt.Sprintf("! %s", api.Banner)))
	}
}
