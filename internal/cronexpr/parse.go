package cronexpr

import (
	"errors"
	"fmt"
	"strings"
)

// macros are the words that stand for a whole expression.
var macros = map[string]Fields{
	"@yearly":   {Sec: "0", Min: "0", Hour: "0", Dom: "1", Mon: "1", Dow: "*", Year: "*"},
	"@monthly":  {Sec: "0", Min: "0", Hour: "0", Dom: "1", Mon: "*", Dow: "*", Year: "*"},
	"@weekly":   {Sec: "0", Min: "0", Hour: "0", Dom: "*", Mon: "*", Dow: "0", Year: "*"},
	"@daily":    {Sec: "0", Min: "0", Hour: "0", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
	"@midnight": {Sec: "0", Min: "0", Hour: "0", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
	"@hourly":   {Sec: "0", Min: "0", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
}

const (
	macroNames = "@yearly, @monthly, @weekly, @daily, @midnight, @hourly"
	// maxExpr bounds a whole expression: seven fields with some space between.
	maxExpr = 8 * maxField
	// scheduleField is the name under which errors speak of the expression as a whole.
	scheduleField = "schedule"
)

// Parse compiles the short form: five fields (min hour dom mon dow), six (sec first), seven (sec min hour dom mon dow year), or a
// macro. With five or six fields, dom and dow both restricted is refused unless the options say how they go together. It also
// returns the fields that the expression stands for. The error is of type Errors; the offsets in it count from the beginning of
// expr.
func Parse(expr string, o Options) (Fields, *Schedule, error) {
	if len(expr) > maxExpr {
		return Fields{}, nil, exprError(expr, fmt.Sprintf("the expression is longer than %d bytes", maxExpr), "write ranges and steps instead of long lists")
	}
	body := trim(expr)
	if strings.HasPrefix(body, "@") {
		return parseMacro(expr, body, o)
	}
	f, offsets, err := split(expr)
	if err != nil {
		return Fields{}, nil, err
	}
	s, err := Compile(f, o)
	errs, _ := errors.AsType[Errors](err)
	for i := range errs {
		errs[i].Offset += offsets[errs[i].Field]
	}
	if offsets["year"] == 0 && !o.Or && !o.And && ambiguousDays(f) {
		errs = append(errs, FieldError{Field: scheduleField, Offset: offsets["dom"], Len: offsets["dow"] + len(f.Dow) - offsets["dom"],
			Text: shown(expr[offsets["dom"] : offsets["dow"]+len(f.Dow)]),
			Msg:  "dom and dow are both restricted: cron runs this on days that match either, Saltpeter on days that match both",
			Hint: `set day_match to "or" or "and"`})
	}
	if len(errs) > 0 {
		return Fields{}, nil, errs
	}
	return f, s, nil
}

func parseMacro(expr, text string, o Options) (Fields, *Schedule, error) {
	f, ok := macros[text]
	if !ok {
		hint := "write one of " + macroNames
		low := strings.ToLower(text)
		if _, ok := macros[low]; ok {
			hint = fmt.Sprintf("write %q", low)
		} else if low == "@annually" {
			hint = `write "@yearly"`
		}
		errs := exprError(text, "there is no such macro", hint)
		errs[0].Offset = strings.Index(expr, text)
		return Fields{}, nil, errs
	}
	s, err := Compile(f, o)
	if err != nil {
		return Fields{}, nil, err
	}
	return f, s, nil
}

// split finds the fields of an expression, and by their names where they begin.
func split(expr string) (Fields, map[string]int, error) {
	var texts []string
	var starts []int
	for at := 0; at < len(expr); {
		rest := expr[at:]
		if n := len(rest) - len(strings.TrimLeft(rest, " \t\r\n")); n > 0 {
			at += n
			continue
		}
		n := strings.IndexAny(rest, " \t\r\n")
		if n < 0 {
			n = len(rest)
		}
		texts, starts = append(texts, rest[:n]), append(starts, at)
		at += n
	}
	first := 0
	switch len(texts) {
	case 5:
		first = 1
	case 6, 7:
	default:
		return Fields{}, nil, exprError(expr, fmt.Sprintf("the expression has %d fields", len(texts)),
			`write 5 (min hour dom mon dow), 6 (sec first) or 7 (sec min hour dom mon dow year), or one of `+macroNames)
	}
	all := [7]string{0: "0", 6: "*"}
	offsets := make(map[string]int, len(all))
	for i, text := range texts {
		all[first+i] = text
		offsets[specs[first+i].name] = starts[i]
	}
	return Fields{Sec: all[0], Min: all[1], Hour: all[2], Dom: all[3], Mon: all[4], Dow: all[5], Year: all[6]}, offsets, nil
}

func exprError(expr, msg, hint string) Errors {
	return Errors{{Field: scheduleField, Len: len(expr), Text: shown(expr), Msg: msg, Hint: hint}}
}
