package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/sys/unix"

	"github.com/syscollective/saltpeter/api"
)

// Colours, as ANSI parameters.
const (
	plain  = ""
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "36"
	faint  = "2"
	bold   = "1"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// colored reports whether to paint.
func (c *cli) colored() bool {
	switch {
	case c.color == "always":
		return true
	case c.color == "never" || c.env("NO_COLOR") != "":
		return false
	case c.env("CLICOLOR_FORCE") != "" && c.env("CLICOLOR_FORCE") != "0":
		return true
	}
	return c.tty && c.env("TERM") != "dumb"
}

func (c *cli) paint(color, s string) string {
	if color == plain || s == "" || !c.colored() {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// printable keeps names and texts of others from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// quote makes an argument of a shell out of a name.
func quote(name string) string {
	name = printable(name)
	safe := strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.:/@%+=", r)
	})
	if !safe && name != "" {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// cell is a text of a table with its colour.
type cell struct{ text, color string }

// table lays out columns with two blanks between; the last column is as long as it wants to be.
type table struct {
	head []string
	rows [][]cell
}

// row adds a row; an argument is a string or a cell.
func (t *table) row(cells ...any) {
	var row []cell
	for _, v := range cells {
		one, ok := v.(cell)
		if !ok {
			one = cell{text: fmt.Sprint(v)}
		}
		one.text = printable(one.text)
		if one.text == "" {
			one.text = "-"
		}
		row = append(row, one)
	}
	t.rows = append(t.rows, row)
}

// show writes the table.
func (c *cli) show(t *table) error {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = text.StringWidth(h)
	}
	for _, row := range t.rows {
		for i, one := range row {
			widths[i] = max(widths[i], text.StringWidth(one.text))
		}
	}
	var b strings.Builder
	line := func(row []cell) {
		for i, one := range row {
			b.WriteString(c.paint(one.color, one.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-text.StringWidth(one.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{h, faint}
	}
	line(head)
	for _, row := range t.rows {
		line(row)
	}
	return c.print("%s", b.String())
}

// took gives a duration as people say it: 0.4s, 42s, 15m02s, 3h05m, 2d4h.
func took(d time.Duration) string {
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	switch {
	case d < 0:
		return "0.0s" // clocks of machines differ
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// round gives a duration in its largest unit alone.
func round(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// when gives an instant relative to now; null is a dash.
func (c *cli) when(t api.Time) string {
	if t == 0 {
		return "-"
	}
	d := c.now().Sub(t.Time())
	if d < 0 {
		return "in " + round(-d)
	}
	return round(d) + " ago"
}

// span gives how long something took, or has taken by now.
func (c *cli) span(from, to api.Time) string {
	switch {
	case from == 0:
		return "-"
	case to == 0:
		return took(c.now().Sub(from.Time()))
	default:
		return took(to.Time().Sub(from.Time()))
	}
}

// stamp gives an instant in full.
func stamp(t api.Time) string {
	if t == 0 {
		return "-"
	}
	return t.Time().Format("2006-01-02 15:04:05 UTC")
}

func size(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
