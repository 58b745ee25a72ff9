package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// maxExplained is the most instants that explain lists.
const maxExplained = 1000

// explainFlags are the flags of jobs explain.
type explainFlags struct {
	expr, zone, match, after string
	n                        int
	given                    bool // --expr is
}

func (c *cli) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain --expr EXPR",
		Short: "Show when a schedule is due; needs no node",
		Long: "Show when a schedule is due. EXPR has 5 fields (min hour dom mon dow), 6 (seconds first) or 7 (sec min hour dom mon dow year), " +
			"or is @hourly, @daily, @weekly, @monthly or @yearly. The exit code is 8 if it is not valid.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed("expr")
			return c.explainExpr(f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.expr, "expr", "", "the expression")
	flags.StringVar(&f.zone, "timezone", "", "IANA zone whose wall clock the expression speaks of (UTC)")
	flags.StringVar(&f.match, "day-match", "", "how day of month and day of week go together: and, or")
	flags.StringVar(&f.after, "after", "", "list what is due after this time, as 2026-01-02T15:04:05Z (now)")
	flags.IntVarP(&f.n, "n", "n", 5, "how many to list")
	return cmd
}

func (c *cli) explainExpr(f explainFlags) error {
	after := c.now()
	switch {
	case !f.given:
		return usage("--expr is missing").WithHint("usage: spctl jobs explain --expr '0 2 * * *'")
	case f.match != "" && f.match != "or" && f.match != "and":
		return usage("--day-match %q is unknown", f.match).WithHint("use and, or")
	case f.n < 0 || f.n > maxExplained:
		return usage("-n %d is out of range", f.n).WithHint("0 to %d", maxExplained)
	}
	if f.after != "" {
		var err error
		if after, err = time.Parse(time.RFC3339, f.after); err != nil {
			return usage("--after %q is not a time", f.after).WithHint("write it like 2026-01-02T15:04:05Z")
		}
	}
	e := api.Explain(f.expr, f.zone, f.match, after, f.n)
	if c.json() {
		if err := c.printValue(e); err != nil {
			return err
		}
		if !e.Valid {
			return exitError(exitInvalidConfig)
		}
		return nil
	}
	if !e.Valid {
		return c.invalidExpr(f.expr, e.Errors)
	}
	return c.showExplanation(f, &e)
}

// invalidExpr underlines what is wrong.
func (c *cli) invalidExpr(expr string, errs cronexpr.Errors) error {
	for _, e := range errs {
		c.say("%s %s: %s\n", c.paint(red, "error:"), e.Field, printable(e.Msg))
		if strings.TrimSpace(expr) != "" && e.Field != "timezone" && e.Offset >= 0 && e.Offset+e.Len <= len(expr) {
			c.say("  %s\n  %s%s\n", printable(expr), strings.Repeat(" ", runes(expr[:e.Offset])), strings.Repeat("^", max(runes(expr[e.Offset:e.Offset+e.Len]), 1)))
		}
		if e.Hint != "" {
			c.say("  %s\n", printable(e.Hint))
		}
	}
	return exitError(exitInvalidConfig)
}

func runes(s string) int { return len([]rune(s)) }

func (c *cli) showExplanation(f explainFlags, e *cronexpr.Explanation) error {
	for _, w := range e.Warnings {
		c.say("%s %s\n", c.paint(yellow, "warning:"), printable(w))
	}
	if e.Never {
		return c.print("never due any more\n")
	}
	loc, err := cronexpr.LoadLocation(f.zone)
	if err != nil {
		return saltpeter.Errorf(saltpeter.CodeConfig, "%w", err)
	}
	t := &table{head: []string{"NEXT (UTC)", "IN"}}
	if loc != time.UTC {
		t.head = []string{"NEXT (UTC)", fmt.Sprintf("IN %s", f.zone), "IN"}
	}
	for _, at := range e.Next {
		in := c.when(api.TimeOf(at))
		if loc == time.UTC {
			t.row(at.Format("Mon 2006-01-02 15:04:05"), in)
		} else {
			t.row(at.Format("Mon 2006-01-02 15:04:05"), at.In(loc).Format("Mon 2006-01-02 15:04:05 -07:00"), in)
		}
	}
	return c.show(t)
}
