package cronexpr

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// outside says what to write instead of a number that the field doesn't have.
func (p *parser) outside(n int) string {
	switch {
	case p.name == "hour" && n == 24:
		return `write "0" for midnight`
	case p.name == "min" && n == 60:
		return `write "0" for the full hour`
	case p.name == "sec" && n == 60:
		return `write "0" for the full minute`
	case n == 0:
		return `write "1" or more (every n-th value from the first is "*/n")`
	case n < p.min:
		return fmt.Sprintf("write %q or more", strconv.Itoa(p.min))
	}
	return fmt.Sprintf("write %q or less", strconv.Itoa(p.max))
}

// explain says what is wrong with a text that is neither a number nor one of the field's names, and what to write instead.
func (p *parser) explain(low string) (msg, hint string) {
	if msg, hint = p.explainName(low); msg != "" {
		return msg, hint
	}
	switch {
	case low == "":
		return "a value is missing", fmt.Sprintf("write a number from %d to %d", p.min, p.max)
	case strings.HasPrefix(low, "+"):
		return "values have no sign", fmt.Sprintf("write %q", strings.TrimLeft(low, "+"))
	case low == "?":
		return `"?" stands alone`, `write "*" before a step`
	case strings.Contains(low, "*"):
		return `"*" stands alone or before a step`, `write "*" or "*/n"`
	case strings.HasPrefix(low, "h"):
		return "hashed values are not supported", fmt.Sprintf("write a number from %d to %d", p.min, p.max)
	case low == "l" || strings.ContainsAny(low, "wz"):
		return "this form is not supported in this field", `L, Zn and nW go in dom ("L" is the last day), Ln and nL in dow ("5L" is the last Friday)`
	case strings.Contains(low, "#"):
		return "n#k is for dow only", `write it in dow, such as "5#2" for the second Friday`
	}
	return "this is not a value of the field", fmt.Sprintf("write a whole decimal number from %d to %d%s", p.min, p.max, p.orName())
}

// explainName recognises names that are too long or belong to the other field.
func (p *parser) explainName(low string) (msg, hint string) {
	if len(low) < 3 || strings.Trim(low, "abcdefghijklmnopqrstuvwxyz") != "" {
		return "", ""
	}
	short := low[:3]
	for _, other := range []*spec{&specs[4], &specs[5]} {
		switch i := slices.Index(other.names, short); {
		case i < 0 || !fullName(low, other.name, i):
		case other.name == p.name:
			return "names have three letters", fmt.Sprintf("write %q", short)
		default:
			return fmt.Sprintf("%q is a name for %s", low, other.name), fmt.Sprintf("write %q in %s, or a number here", short, other.name)
		}
	}
	return "", ""
}

var (
	fullMonths = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
	fullDays   = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
)

// fullName reports whether low is a beginning, of three letters or more, of the i-th name of mon or dow.
func fullName(low, field string, i int) bool {
	if field == "mon" {
		return strings.HasPrefix(fullMonths[i], low)
	}
	return strings.HasPrefix(fullDays[i], low)
}

func (p *parser) orName() string {
	if len(p.names) == 0 {
		return ""
	}
	return fmt.Sprintf(", or one of %s-%s", p.names[0], p.names[len(p.names)-1])
}

// example is a range that the field accepts.
func (p *parser) example() string { return part(p.min+1, p.min+3) }
