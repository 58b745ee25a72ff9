package cronexpr

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// spec is what one field allows.
type spec struct {
	name     string
	pos      int // in the seven fields, and gronx's number of the segment
	min, max int
	top      int      // where `*` and `a/n` end: dow counts to 7, but its week has 7 days
	names    []string // lower case; the first stands for the value base
	base     int
}

var (
	monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

	specs = [7]spec{
		{name: "sec", pos: 0, max: 59, top: 59},
		{name: "min", pos: 1, max: 59, top: 59},
		{name: "hour", pos: 2, max: 23, top: 23},
		{name: "dom", pos: 3, min: 1, max: 31, top: 31},
		{name: "mon", pos: 4, min: 1, max: 12, top: 12, names: monthNames, base: 1},
		{name: "dow", pos: 5, max: 7, top: 6, names: dayNames},
		{name: "year", pos: 6, min: minYear, max: maxYear, top: maxYear},
	}
)

const (
	posDom = 3
	posDow = 5

	// maxField bounds a field's text and maxBefore the n of Zn.
	maxField  = 256
	maxBefore = 7
)

type kind int

const (
	kindAny     kind = iota // `*` or `?`
	kindSpan                // lo, lo+step … hi
	kindLast                // dom: L
	kindBefore              // dom: Zlo-hi
	kindNearest             // dom: loW
	kindLastDow             // dow: Llo-hi
	kindNth                 // dow: lo#hi
)

// item is one element of a field's list.
type item struct {
	kind         kind
	lo, hi, step int
	offset       int // of its text in the field's, in bytes
	text         string
}

// parser reads one field and gathers its problems.
type parser struct {
	*spec
	errs Errors
}

func (f Fields) texts() [7]string {
	return [7]string{f.Sec, f.Min, f.Hour, f.Dom, f.Mon, f.Dow, f.Year}
}

func parseFields(f Fields) (items [7][]item, errs Errors) {
	for i, text := range f.texts() {
		p := parser{spec: &specs[i]}
		items[i] = p.parse(text)
		errs = append(errs, p.errs...)
	}
	return items, errs
}

// isInterval reports whether the clock's changes leave the job alone (see stretch).
func isInterval(f Fields) bool {
	for _, text := range []string{f.Sec, f.Min, f.Hour} {
		if strings.HasPrefix(trim(text), "*") {
			return true
		}
	}
	return false
}

// ambiguousDays reports whether ANDing the day fields differs from what Vixie's cron does with the same texts.
func ambiguousDays(f Fields) bool { return !isStar(f.Dom) && !isStar(f.Dow) }

func isStar(text string) bool {
	text = trim(text)
	return strings.HasPrefix(text, "*") || strings.HasPrefix(text, "?")
}

func trim(text string) string { return strings.Trim(text, " \t\r\n") }

func (p *parser) fail(offset int, text, msg, hint string) {
	p.errs = append(p.errs, FieldError{Field: p.name, Offset: offset, Len: len(text), Text: shown(text), Msg: msg, Hint: hint})
}

func (p *parser) parse(text string) []item {
	body := trim(text)
	offset := strings.Index(text, body)
	switch {
	case body == "":
		p.fail(0, text, "the field is empty", `write "*" for every value`)
		return nil
	case len(body) > maxField:
		p.fail(offset, body, fmt.Sprintf("the field is longer than %d bytes", maxField), "write ranges and steps instead of long lists")
		return nil
	case strings.HasPrefix(body, "@"):
		p.fail(offset, body, "a macro can't stand inside a field", fmt.Sprintf("write schedule: %q instead of the fields", strings.ToLower(shown(body))))
		return nil
	case strings.ContainsAny(body, " \t\r\n"):
		p.fail(offset, body, "there is a space inside the field", fmt.Sprintf("write %q", strings.Join(strings.Fields(shown(body)), "")))
		return nil
	}
	var items []item
	for text := range strings.SplitSeq(body, ",") {
		if it, ok := p.item(text, offset); ok {
			it.offset, it.text = offset, text
			items = append(items, it)
		}
		offset += len(text) + 1
	}
	return items
}

func (p *parser) item(text string, offset int) (item, bool) {
	low := strings.ToLower(text)
	switch {
	case text == "":
		p.fail(offset, text, "an item of the list is missing", "remove the comma that is too many")
		return item{}, false
	case !isASCII(text):
		p.fail(offset, text, "only ASCII characters are allowed", "write digits as 0-9 and a hyphen as -")
		return item{}, false
	case text == "*", text == "?" && p.isDay():
		return item{kind: kindAny}, true
	case text == "?":
		p.fail(offset, text, `"?" is for dom and dow only`, `write "*"`)
		return item{}, false
	case p.pos == posDom && isDomSpecial(low):
		return p.domSpecial(low, text, offset)
	case p.pos == posDow && isDowSpecial(low):
		return p.dowSpecial(low, text, offset)
	}
	return p.span(text, offset)
}

func (p *parser) isDay() bool { return p.pos == posDom || p.pos == posDow }

// span reads `a`, `a-b`, and either of them or `*` with `/n`.
func (p *parser) span(text string, offset int) (item, bool) {
	body, stepText, stepped := strings.Cut(text, "/")
	it, isRange, ok := p.bounds(body, offset)
	if stepped {
		step, stepOK := p.step(stepText, text, offset)
		it.step, ok = step, ok && stepOK
		if !isRange {
			it.hi = p.top
		}
	}
	switch {
	case !ok || isRange && !p.ordered(it, text, offset):
		return item{}, false
	case stepped && it.lo+it.step > p.max:
		p.fail(offset, text, fmt.Sprintf("the step leads beyond the field's maximum %d after the first value", p.max),
			fmt.Sprintf("write %q for the value that is left", strconv.Itoa(it.lo)))
		return item{}, false
	}
	return it, true
}

func (p *parser) bounds(body string, offset int) (it item, isRange, ok bool) {
	if body == "*" {
		return item{kind: kindSpan, lo: p.min, hi: p.top, step: 1}, true, true
	}
	from, to, isRange := strings.Cut(body, "-")
	if !isRange {
		lo, ok := p.value(from, offset)
		return item{kind: kindSpan, lo: lo, hi: lo, step: 1}, false, ok
	}
	if strings.Contains(to, "-") {
		p.fail(offset, body, "a range has two ends", fmt.Sprintf("write a range such as %q, several of them with commas", p.example()))
		return item{}, true, false
	}
	if from == "" || to == "" {
		p.fail(offset, body, "a range has two ends, and no value is negative", fmt.Sprintf("write a number from %d to %d", p.min, p.max))
		return item{}, true, false
	}
	lo, ok := p.value(from, offset)
	hi, hiOK := p.value(to, offset+len(from)+1)
	if !ok || !hiOK {
		return item{}, true, false
	}
	it = item{kind: kindSpan, lo: lo, hi: hi, step: 1}
	return it, true, p.sunday(&it, body, offset)
}

// sunday gives the 0 at a range's end the meaning that it has there, 7.
func (p *parser) sunday(it *item, text string, offset int) bool {
	if p.pos != posDow || it.hi != 0 {
		return true
	}
	if it.lo == 0 {
		p.fail(offset, text, "the range from Sunday to Sunday is every day to some programs and Sunday alone to others",
			`write "*" for every day or "0" for Sunday`)
		return false
	}
	it.hi = 7
	return true
}

// ordered refuses ranges that run backwards.
func (p *parser) ordered(it item, text string, offset int) bool {
	if it.lo <= it.hi {
		return true
	}
	instead := p.unwrapped(it)
	if it.kind == kindLastDow {
		instead = "L" + strings.ReplaceAll(instead, ",", ",L")
	}
	p.fail(offset, text, fmt.Sprintf("the range runs backwards, from %d to %d", it.lo, it.hi), fmt.Sprintf("write %q", instead))
	return false
}

// unwrapped writes a range that runs over the field's end as a list of what it would mean.
func (p *parser) unwrapped(it item) string {
	switch {
	case p.top == maxYear:
		return withStep(part(it.hi, it.lo), it.step)
	case p.pos == posDow && it.lo == 7:
		return withStep(part(0, it.hi), it.step)
	case it.step > 1:
		var values []string
		size := p.top - p.min + 1
		for v := it.lo; v <= it.hi+size; v += it.step {
			values = append(values, strconv.Itoa((v-p.min)%size+p.min))
		}
		return strings.Join(values, ",")
	}
	return part(it.lo, p.top) + "," + part(p.min, it.hi)
}

func part(lo, hi int) string {
	if lo == hi {
		return strconv.Itoa(lo)
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}

func withStep(text string, step int) string {
	if step > 1 {
		return fmt.Sprintf("%s/%d", text, step)
	}
	return text
}

// step reads what follows the slash.
func (p *parser) step(text, whole string, offset int) (int, bool) {
	at := offset + len(whole) - len(text)
	n, ok := digits(text)
	switch {
	case !ok:
		p.fail(at, text, "the step is not a whole number", `write one step in digits, such as "*/2"`)
	case n == 0:
		p.fail(at, text, "a step of 0 leads nowhere", `write "*" for every value, or a step from 1`)
	case n > p.max:
		first, _, _ := strings.Cut(whole, "/")
		first, _, _ = strings.Cut(first, "-")
		if first == "*" {
			first = strconv.Itoa(p.min)
		}
		p.fail(offset, whole, fmt.Sprintf("the step is larger than the field's maximum %d", p.max),
			fmt.Sprintf("write %q, the only value that it could match", first))
	default:
		return n, true
	}
	return 0, false
}

// value reads a number or a name of the field.
func (p *parser) value(text string, offset int) (int, bool) {
	if n, ok := digits(text); ok {
		return n, p.inRange(n, text, offset)
	}
	low := strings.ToLower(text)
	if i := slices.Index(p.names, low); i >= 0 {
		return p.base + i, true
	}
	msg, hint := p.explain(low)
	p.fail(offset, text, msg, hint)
	return 0, false
}

func (p *parser) inRange(n int, text string, offset int) bool {
	if n >= p.min && n <= p.max {
		return true
	}
	p.fail(offset, text, fmt.Sprintf("the value must lie in %d-%d", p.min, p.max), p.outside(n))
	return false
}

// digits reads a decimal number; leading zeros mean nothing, signs and anything else are refused. Numbers beyond any field's
// reach come back as a large one.
func digits(text string) (int, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > 1e9 {
		return 1e9, true
	}
	return n, true
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
