package saltclient

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Resolve asks the master's caches, through the runner cache. Nobody is asked, but it takes two calls:
//
// cache.mine gives little for each minion. But where nothing matches, it gives all minions instead of none. So one of those
// that it gave is looked up again, by cache.grains together with the expression: if it doesn't come, nothing matched.
// An expression that Salt can't evaluate matches nothing, too, but then also not together with "or that one".
func (a *API) Resolve(ctx context.Context, e Expression) (Matched, error) {
	if err := e.evaluable(); err != nil {
		return Matched{}, err
	}
	found, err := a.cached(ctx, "cache.mine", e)
	switch {
	case err != nil:
		return Matched{}, err
	case e.Type == "list":
		return matchedOf(e.Text, found), nil
	case len(found) == 0, e.Type == "glob" && e.Text[0] == "*":
		return Matched{Minions: found}, nil
	}
	witness := slices.IndexFunc(found, func(id string) bool { return oneWord(id) && !strings.Contains(id, ",") })
	word, ok := compoundWord(e)
	if witness < 0 || !ok {
		found, err = a.cached(ctx, "cache.grains", e)
		return Matched{Minions: found}, err
	}
	return a.confirm(ctx, e, word, found, found[witness])
}

// confirm gives found, if one of them is really matched.
func (a *API) confirm(ctx context.Context, e Expression, word string, found []string, witness string) (Matched, error) {
	got, err := a.cached(ctx, "cache.grains", Expression{Type: "compound", Text: []string{"( " + word + " ) and L@" + witness}})
	if err != nil {
		return Matched{}, err
	}
	if slices.Contains(got, witness) {
		return Matched{Minions: found}, nil
	}
	got, err = a.cached(ctx, "cache.grains", Expression{Type: "compound", Text: []string{"( " + word + " ) or L@" + witness}})
	if err != nil {
		return Matched{}, err
	}
	if !slices.Contains(got, witness) {
		return Matched{}, fmt.Errorf("%w: %s %q is malformed, names a nodegroup that the master has not, or needs a module that it has not", ErrExpression, e.Type, e.Text[0])
	}
	return Matched{}, nil
}

// matchedOf divides a list. That found holds another id says that nothing matched and all were given.
func matchedOf(list, found []string) Matched {
	ids := sorted(slices.Clone(list))
	if slices.ContainsFunc(found, func(id string) bool { _, ok := slices.BinarySearch(ids, id); return !ok }) {
		return Matched{Missing: ids}
	}
	missing := slices.DeleteFunc(ids, func(id string) bool { _, ok := slices.BinarySearch(found, id); return ok })
	return Matched{Minions: found, Missing: missing}
}

// evaluable refuses what Salt takes silently for a target that matches nothing.
func (e Expression) evaluable() error {
	if err := e.check(); err != nil {
		return err
	}
	if _, known := compoundLetters[e.Type]; !known && e.Type != "list" && e.Type != "compound" {
		return fmt.Errorf("%w: target_type %q is not known", ErrExpression, e.Type)
	}
	if e.Type != "ipcidr" {
		return nil
	}
	address, mask, masked := strings.Cut(e.Text[0], "/")
	_, err := netip.ParseAddr(address)
	if err == nil && masked {
		if _, bits := strconv.Atoi(mask); bits != nil {
			_, err = netip.ParseAddr(mask)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: ipcidr %q is no address or network", ErrExpression, e.Text[0])
	}
	return nil
}

// compoundLetters write an expression of another type as a word of a compound one.
var compoundLetters = map[string]string{
	"glob": "", "pcre": "E@", "grain": "G@", "grain_pcre": "P@", "pillar": "I@", "pillar_pcre": "J@",
	"nodegroup": "N@", "range": "R@", "ipcidr": "S@",
}

// compoundWord writes an expression as a part of a compound one, if it can be.
func compoundWord(e Expression) (string, bool) {
	text := e.Text[0]
	if e.Type == "compound" {
		return text, true
	}
	letter, known := compoundLetters[e.Type]
	if e.Type == "glob" && strings.Contains(text, "@") {
		return "", false
	}
	return letter + text, known && oneWord(text)
}

// oneWord reports whether a compound expression takes a text as one plain word.
func oneWord(text string) bool {
	switch text {
	case "", "and", "or", "not", "(", ")":
		return false
	}
	return !strings.ContainsFunc(text, unicode.IsSpace)
}

// cached gives the ids for which a function of the runner cache has an entry, sorted.
func (a *API) cached(ctx context.Context, fun string, e Expression) ([]string, error) {
	var got map[string]json.RawMessage
	if err := a.call(ctx, &lowstate{fields: target(e, runner(fun, map[string]any{})), into: &got, lost: ErrUnreachable}); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(got)), nil
}
