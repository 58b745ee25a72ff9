package cronexpr

import (
	"fmt"
	"strings"
)

// isDomSpecial reports whether a dom item, in lower case, is meant as one of L, Zn, Za-b, nW; names of weekdays are not.
func isDomSpecial(low string) bool {
	return strings.HasPrefix(low, "l") || strings.HasPrefix(low, "z") || strings.HasSuffix(low, "w")
}

// isDowSpecial does the same for Ln, Ln-m, nL, n#k.
func isDowSpecial(low string) bool {
	return strings.HasPrefix(low, "l") || strings.HasSuffix(low, "l") && low != "jul" && low != "april" || strings.Contains(low, "#")
}

const domForms = `"L" is the last day, "Z3" three days before it, "Z0-3" the last four, "15W" the weekday nearest to the 15th`

func (p *parser) domSpecial(low, text string, offset int) (item, bool) {
	switch {
	case low == "l":
		return item{kind: kindLast}, true
	case low[0] == 'z':
		return p.before(low, text, offset)
	case strings.HasPrefix(low, "l-") && !strings.HasSuffix(low, "w"):
		p.fail(offset, text, "days before the last are written with Z", fmt.Sprintf("write %q", "Z"+low[2:]))
		return item{}, false
	case low[0] == 'l':
		p.fail(offset, text, "the weekday nearest to the last day is not supported", `write "L" for the last day, "Z1" for the day before it`)
		return item{}, false
	}
	n, ok := digits(low[:len(low)-1])
	if !ok || low == "w" {
		p.fail(offset, text, "nW needs one day of the month before the W", domForms)
		return item{}, false
	}
	return item{kind: kindNearest, lo: n}, p.inRange(n, text[:len(text)-1], offset)
}

// before reads Zn and Za-b.
func (p *parser) before(low, text string, offset int) (item, bool) {
	from, to, isRange := strings.Cut(low[1:], "-")
	lo, ok := digits(from)
	hi, hiOK := lo, ok
	if isRange {
		hi, hiOK = digits(to)
	}
	switch {
	case !ok || !hiOK:
		p.fail(offset, text, "Z needs a number of days before the last", domForms)
	case lo > maxBefore || hi > maxBefore:
		p.fail(offset, text, fmt.Sprintf("Z counts up to %d days before the last", maxBefore), domForms)
	case lo > hi:
		p.fail(offset, text, "the range runs backwards", fmt.Sprintf("write %q", "Z"+part(hi, lo)))
	default:
		return item{kind: kindBefore, lo: lo, hi: hi}, true
	}
	return item{}, false
}

const dowForms = `"L5" or "5L" is the last Friday, "L1-5" the last of each day from Monday to Friday, "5#2" the second Friday`

func (p *parser) dowSpecial(low, text string, offset int) (item, bool) {
	if strings.Contains(low, "#") {
		return p.nth(low, text, offset)
	}
	body, at, leading := text[1:], offset+1, true
	if low[0] != 'l' {
		body, at, leading = text[:len(text)-1], offset, false
	}
	switch {
	case body == "" || strings.ContainsAny(body, "/*"):
		p.fail(offset, text, "L needs a weekday, or a range of them, in dow", dowForms)
		return item{}, false
	case leading && strings.ContainsAny(low[1:], "abcdefghijklmnopqrstuvwxyz"):
		p.fail(offset, text, "days after the L are numbers", dowForms)
		return item{}, false
	}
	it, isRange, ok := p.bounds(body, at)
	it.kind = kindLastDow
	if !ok || !p.ordered(it, body, at) {
		return item{}, false
	}
	if isRange && !leading {
		p.fail(offset, text, "a range of last weekdays begins with the L", fmt.Sprintf("write %q", "L"+part(it.lo, it.hi)))
		return item{}, false
	}
	return it, true
}

// nth reads n#k.
func (p *parser) nth(low, text string, offset int) (item, bool) {
	day, count, _ := strings.Cut(low, "#")
	k, ok := digits(count)
	if day == "" || !ok || k < 1 || k > 5 {
		p.fail(offset, text, "n#k needs a weekday and a count from 1 to 5", dowForms)
		return item{}, false
	}
	n, ok := p.value(text[:len(day)], offset)
	return item{kind: kindNth, lo: n, hi: k}, ok
}
