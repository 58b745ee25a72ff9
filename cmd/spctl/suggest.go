package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/internal/suggest"
)

// maxSuggestions bounds how many guesses are shown.
const maxSuggestions = 3

// nearest gives the names that are most like a word, best first.
func nearest(word string, names []string) []string {
	type guess struct {
		name string
		far  int
	}
	var guesses []guess
	most := max(2, len([]rune(word))/3)
	for _, name := range names {
		far := suggest.Distance(strings.ToLower(word), strings.ToLower(name))
		if strings.HasPrefix(name, word) {
			far = min(far, most)
		}
		if far <= most {
			guesses = append(guesses, guess{name, far})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int { return a.far - b.far })
	var best []string
	for _, g := range guesses[:min(len(guesses), maxSuggestions)] {
		best = append(best, g.name)
	}
	return best
}

// meant gives the hint of an error: guesses, and where to look.
func meant(guesses []string, see string) string {
	if len(guesses) == 0 {
		return see
	}
	return "did you mean: " + strings.Join(guesses, ", ") + "\n" + see
}

// missingJob adds guesses to the error of a job that is not there.
func missingJob(ctx context.Context, cl *client.Client, name string, err error) error {
	e, ok := errors.AsType[*saltpeter.Error](err)
	if !ok || e.Code != saltpeter.CodeNotFound {
		return err
	}
	return e.WithHint("%s", meant(nearestJob(ctx, cl, name), "see: spctl jobs"))
}

// nearestJob gives the names of jobs that are most like a word.
func nearestJob(ctx context.Context, cl *client.Client, word string) []string {
	jobs, err := cl.Jobs(ctx, nil, 0)
	if err != nil {
		return nil
	}
	names := make([]string, len(jobs.Items))
	for i := range jobs.Items {
		names[i] = jobs.Items[i].Name
	}
	return nearest(word, names)
}

// missingMachine adds guesses to the error of a machine that is not in a run.
func missingMachine(ctx context.Context, cl *client.Client, run string, names []string, err error) error {
	e, ok := errors.AsType[*saltpeter.Error](err)
	if !ok || e.Code != saltpeter.CodeNotFound || len(names) == 0 {
		return err
	}
	machines, failed := cl.Machines(ctx, run, nil, 0)
	if failed != nil {
		return err
	}
	have := make([]string, len(machines.Items))
	for i := range machines.Items {
		have[i] = machines.Items[i].Machine
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			return e.WithHint("%s", meant(nearest(name, have), "see: spctl runs machines "+quote(run)))
		}
	}
	return err
}
