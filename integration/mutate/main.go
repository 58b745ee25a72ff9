// Command mutate asks whether the tests of fsm and scheduler notice when the code is wrong: it has gremlins change a seeded
// sample of places, one at a time, in a copy of the tree, and run the package's tests on each. It prints how many were
// noticed and lists those that were not.
//
// Gremlins itself can't draw a sample, but it can keep to lines that differ from a revision: so the copy gets a first commit
// in which the drawn lines carry a comment more, and a second one without. It compares names as they are below the package,
// and takes each hunk for one run of lines: hence the two settings of git.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

type options struct {
	seed     uint64
	sample   int
	atLeast  float64
	packages []string
}

// report is what gremlins writes of one package.
type report struct {
	Files []struct {
		Name      string `json:"file_name"`
		Mutations []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
			Line   int    `json:"line"`
			Column int    `json:"column"`
		} `json:"mutations"`
	} `json:"files"`
}

// place is a line on which something can be changed.
type place struct {
	file    string // below the module
	line    int
	mutants int
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the sample")
	flag.IntVar(&o.sample, "n", 300, "number of mutants")
	flag.Float64Var(&o.atLeast, "at-least", 0.8, "share that must be noticed")
	flag.Parse()
	o.packages = []string{"fsm", "scheduler"}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "saltpeter-mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := shell(ctx, ".", fmt.Sprintf("git ls-files -z | xargs -0 cp --parents -t %q", dir)); err != nil {
		return fmt.Errorf("copy the tree: %w", err)
	}
	var places []place
	for _, p := range o.packages {
		found, err := list(ctx, dir, p)
		if err != nil {
			return err
		}
		places = append(places, found...)
	}
	drawn := draw(places, o.seed, o.sample)
	if err := commit(ctx, dir, drawn); err != nil {
		return err
	}
	return judge(ctx, dir, o)
}

// list has gremlins say what it could change in a package.
func list(ctx context.Context, dir, pkg string) ([]place, error) {
	rep, err := gremlins(ctx, dir, pkg, "--dry-run")
	if err != nil {
		return nil, err
	}
	byLine := make(map[place]int)
	for _, f := range rep.Files {
		for _, m := range f.Mutations {
			if m.Status == "RUNNABLE" {
				byLine[place{file: filepath.Join(pkg, f.Name), line: m.Line}]++
			}
		}
	}
	var out []place
	for p, n := range byLine {
		p.mutants = n
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b place) int { return cmp.Or(strings.Compare(a.file, b.file), a.line-b.line) })
	return out, nil
}

// draw takes lines until their mutants are n.
func draw(all []place, seed uint64, n int) []place {
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var drawn []place
	for _, p := range all {
		if n <= 0 {
			break
		}
		n -= p.mutants
		drawn = append(drawn, p)
	}
	return drawn
}

// commit makes the two revisions whose difference is the drawn lines.
func commit(ctx context.Context, dir string, drawn []place) error {
	const git = "git -c user.name=mutate -c user.email=mutate@localhost "
	originals := make(map[string][]byte)
	for _, p := range drawn {
		path := filepath.Join(dir, p.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if originals[path] == nil {
			originals[path] = text
		}
		lines := strings.Split(string(text), "\n")
		lines[p.line-1] += " //"
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			return err
		}
	}
	if err := shell(ctx, dir, "git init -q -b work && git config diff.relative true && git config diff.context 0 && git add -A && "+git+"commit -q -m before && git branch before"); err != nil {
		return err
	}
	for path, text := range originals {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return shell(ctx, dir, git+"commit -q -a -m after")
}

// judge has every drawn place changed and tested.
func judge(ctx context.Context, dir string, o options) error {
	var killed, late, lived int
	for _, pkg := range o.packages {
		rep, err := gremlins(ctx, dir, pkg, "--diff", "before", "--workers", "2", "--timeout-coefficient", "30")
		if err != nil {
			return err
		}
		for _, f := range rep.Files {
			for _, m := range f.Mutations {
				switch m.Status {
				case "KILLED":
					killed++
				case "TIMED OUT":
					late++
				case "LIVED":
					lived++
					fmt.Printf("not noticed: %s:%d:%d %s\n", filepath.Join(pkg, f.Name), m.Line, m.Column, m.Type)
				}
			}
		}
	}
	noticed, all := killed+late, killed+late+lived
	if all == 0 {
		return errors.New("nothing was changed")
	}
	share := float64(noticed) / float64(all)
	fmt.Printf("%d of %d changes were noticed (%.0f %%, seed %d), %d of them because the tests did not end\n", noticed, all, share*100, o.seed, late)
	if share < o.atLeast {
		return fmt.Errorf("fewer than %.0f %% were noticed", o.atLeast*100)
	}
	return nil
}

func gremlins(ctx context.Context, dir, pkg string, args ...string) (*report, error) {
	out := filepath.Join(dir, "report.json")
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "gremlins", append([]string{"unleash", "-o", out}, append(args, filepath.Join(dir, pkg))...)...)
	cmd.Dir = filepath.Join(dir, pkg)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gremlins in %s: %w: %s", pkg, err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	rep := new(report)
	if err := json.Unmarshal(text, rep); err != nil {
		return nil, fmt.Errorf("read gremlins' report: %w", err)
	}
	return rep, nil
}

func shell(ctx context.Context, dir, script string) error {
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}
