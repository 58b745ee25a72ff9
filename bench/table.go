package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one figure.
type row struct {
	what   string
	figure string
	limit  string // the same of what can't be beaten, in the same run
	ratio  float64
	budget string
	ok     bool // meaningful with a budget
}

// table collects rows and prints them.
type table struct {
	out  io.Writer
	rows []row
	over int // rows beyond their budget, of all tables so far
}

func newTable(out io.Writer) *table { return &table{out: out} }

func (t *table) add(r row) {
	if r.budget != "" && !r.ok {
		t.over++
	}
	t.rows = append(t.rows, r)
}

// print prints what was collected and begins anew.
func (t *table) print(title string, took time.Duration) {
	fmt.Fprintf(t.out, "\n%s (%s)\n", title, took.Round(time.Second))
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tmeasured\tlimit in this run\tratio\tbudget\t")
	for _, r := range t.rows {
		ratio, verdict := "", ""
		if r.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
		}
		if r.budget != "" {
			verdict = "over"
			if r.ok {
				verdict = "ok"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.figure, r.limit, ratio, r.budget, verdict)
	}
	_ = w.Flush() // to a terminal or a file: who reads it sees
	t.rows = nil
}

// ms writes a duration for people.
func ms(d time.Duration) string {
	switch {
	case d.Abs() < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d.Abs() < 10*time.Second:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

func mib(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }
func kib(bytes float64) string { return fmt.Sprintf("%.1f KiB", bytes/(1<<10)) }

// percentile gives the p-th of a hundred; 0 = the least, 100 = the greatest. It sorts.
func percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)*p/100, len(list)-1)]
}

// median gives the middle one.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}
