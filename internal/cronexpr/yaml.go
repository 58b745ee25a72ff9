package cronexpr

import (
	"fmt"
	"strconv"
	"strings"
)

// CheckPlain refuses an unquoted YAML scalar that the Python program read as another number than the one that stands there: its
// YAML 1.1 takes 010 for octal and 1:30 for base 60. 00 to 09 mean the same to both. The text is the scalar as written, the field
// the name for the error, which is of type FieldError. Quoted scalars need no check.
func CheckPlain(field, text string) error {
	fail := func(msg, hint string) error {
		return FieldError{Field: field, Len: len(text), Text: shown(text), Msg: msg, Hint: hint}
	}
	if n, ok := sexagesimal(text); ok {
		return fail(fmt.Sprintf("YAML 1.1 reads this as base 60, which is %d; it may also be meant as a time of day", n),
			fmt.Sprintf("write %q, or the time as its own hour and min", strconv.Itoa(n)))
	}
	decimal, ok := digits(text)
	if !ok || len(text) < 3 || text[0] != '0' {
		return nil
	}
	octal, err := strconv.ParseInt(text, 8, 32)
	if err != nil {
		return fail(fmt.Sprintf("YAML 1.1 reads a number with a leading zero as octal, others as %d", decimal),
			fmt.Sprintf("write %q", strconv.Itoa(decimal)))
	}
	return fail(fmt.Sprintf("YAML 1.1 reads this as octal, which is %d, others as %d", octal, decimal),
		fmt.Sprintf("write %q or %q", strconv.Itoa(int(octal)), strconv.Itoa(decimal)))
}

// sexagesimal reads digits with colons between as base 60.
func sexagesimal(text string) (int, bool) {
	if !strings.Contains(text, ":") {
		return 0, false
	}
	sum := 0
	for part := range strings.SplitSeq(text, ":") {
		n, ok := digits(part)
		if !ok || sum > 1e9 {
			return 0, false
		}
		sum = sum*60 + n
	}
	return sum, true
}
