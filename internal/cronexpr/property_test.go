package cronexpr

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/adhocore/gronx"
	"pgregory.net/rapid"
)

// twin is an item as we and as gronx write it; where gronx has no words for it, days decides.
type twin struct {
	ours, theirs string
	days         func(at time.Time) bool
}

// genTwins draws a field's list.
func genTwins(f *spec) *rapid.Generator[[]twin] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) twin { return genTwin(t, f) }), 1, 3)
}

func genTwin(t *rapid.T, f *spec) twin {
	forms := []string{"any", "value", "range", "step", "from", "rangestep"}
	switch f.pos {
	case posDom:
		forms = append(forms, "L", "Z", "Zrange", "W")
	case posDow:
		forms = append(forms, "L", "Lrange", "nL", "nth", "tosunday", "name")
	case 4:
		forms = append(forms, "name")
	}
	a := rapid.IntRange(f.min, f.max).Draw(t, "a")
	b := rapid.IntRange(a, f.max).Draw(t, "b")
	same := func(text string) twin { return twin{ours: text, theirs: text} }
	switch form := rapid.SampledFrom(forms).Draw(t, "form"); form {
	case "value":
		return same(fmt.Sprint(a))
	case "range", "rangestep", "step", "from":
		return genSpan(t, f, form, a, b)
	case "name":
		i := rapid.IntRange(0, len(f.names)-1).Draw(t, "name")
		return twin{ours: strings.ToUpper(f.names[i][:1]) + f.names[i][1:], theirs: fmt.Sprint(f.base + i)}
	case "L":
		if f.pos == posDom {
			return same("L")
		}
		return twin{ours: fmt.Sprintf("l%d", a), theirs: fmt.Sprintf("%dL", a)}
	case "Z", "Zrange":
		return genBefore(t)
	case "W":
		return same(fmt.Sprintf("%dW", a))
	case "Lrange":
		var days []string
		for d := max(a, 1); d <= max(b, 1); d++ {
			days = append(days, fmt.Sprintf("%dL", d))
		}
		return twin{ours: fmt.Sprintf("L%d-%d", max(a, 1), max(b, 1)), theirs: strings.Join(days, ",")}
	case "nL":
		return same(fmt.Sprintf("%dL", a))
	case "nth":
		return same(fmt.Sprintf("%d#%d", a, rapid.IntRange(1, 5).Draw(t, "k")))
	case "tosunday":
		return twin{ours: fmt.Sprintf("%d-0", max(a, 1)), theirs: fmt.Sprintf("%d-7", max(a, 1))}
	}
	return same("*")
}

func genSpan(t *rapid.T, f *spec, form string, a, b int) twin {
	if form == "range" {
		if f.pos == posDow {
			b = max(b, 1)
		}
		return twin{ours: fmt.Sprintf("%02d-%02d", a, b), theirs: fmt.Sprintf("%d-%d", a, b)}
	}
	if form == "step" {
		n := rapid.IntRange(1, f.max-f.min).Draw(t, "n")
		if f.pos == 6 {
			return twin{ours: fmt.Sprintf("*/%d", n), theirs: fmt.Sprintf("1970-2099/%d", n)}
		}
		return twin{ours: fmt.Sprintf("*/%d", n), theirs: fmt.Sprintf("*/%d", n)}
	}
	if a >= f.max {
		a = f.max - 1
		b = f.max
	}
	n := rapid.IntRange(1, f.max-a).Draw(t, "n")
	if form == "from" {
		return twin{ours: fmt.Sprintf("%d/%d", a, n), theirs: fmt.Sprintf("%d-%d/%d", a, f.top, n)}
	}
	if f.pos == posDow {
		b = max(b, 1)
	}
	return twin{ours: fmt.Sprintf("%d-%d/%d", a, b, n), theirs: fmt.Sprintf("%d-%d/%d", a, b, n)}
}

func genBefore(t *rapid.T) twin {
	a := rapid.IntRange(0, maxBefore).Draw(t, "from")
	b := rapid.IntRange(a, maxBefore).Draw(t, "to")
	text := fmt.Sprintf("Z%d-%d", a, b)
	if a == b {
		text = fmt.Sprintf("z%d", a)
	}
	return twin{ours: text, days: func(at time.Time) bool {
		left := monthLen(at.Year(), int(at.Month())) - at.Day()
		return left >= a && left <= b
	}}
}

// drawn is a schedule with gronx's view of it.
type drawn struct {
	fields Fields
	twins  [7][]twin
}

func genSchedule(t *rapid.T) drawn {
	var d drawn
	var texts [7]string
	for i := range specs {
		d.twins[i] = genTwins(&specs[i]).Draw(t, specs[i].name)
		if i == 6 && rapid.Bool().Draw(t, "everyYear") {
			d.twins[i] = []twin{{ours: "*", theirs: "*"}}
		}
		var ours []string
		for _, one := range d.twins[i] {
			ours = append(ours, one.ours)
		}
		texts[i] = strings.Join(ours, ",")
	}
	d.fields = Fields{texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6]}
	return d
}

// matches asks gronx whether a field matches at an instant in UTC.
func (d drawn) matches(t *rapid.T, pos int, at time.Time) bool {
	checker := gronx.SegmentChecker{}
	checker.SetRef(at)
	for _, one := range d.twins[pos] {
		if one.days != nil {
			if one.days(at) {
				return true
			}
			continue
		}
		for item := range strings.SplitSeq(one.theirs, ",") {
			due, err := checker.CheckDue(item, pos)
			if err != nil {
				t.Fatalf("gronx refuses %q: %v", one.theirs, err)
			}
			if due {
				return true
			}
		}
	}
	return false
}

// due asks gronx field by field; the day fields are combined by our rule.
func (d drawn) due(t *rapid.T, at time.Time, or bool) bool {
	for _, pos := range []int{0, 1, 2, 4, 6} {
		if !d.matches(t, pos, at) {
			return false
		}
	}
	dom, dow := d.matches(t, posDom, at), d.matches(t, posDow, at)
	if or && d.fields.Dom[0] != '*' && d.fields.Dow[0] != '*' {
		return dom || dow
	}
	return dom && dow
}

func genInstant(t *rapid.T, name string) int64 {
	return rapid.Int64Range(-2*daySeconds, daysBefore(2100, 1)*daySeconds+2*daySeconds).Draw(t, name)
}

// TestCompiledIsGronx compares every value of every field, some hundred days and the found instants with gronx, in UTC.
func TestCompiledIsGronx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, or := genSchedule(t), rapid.Bool().Draw(t, "or")
		s, err := Compile(d.fields, Options{Or: or})
		if err != nil {
			t.Fatalf("%+v: %v", d.fields, err)
		}
		for v := range 60 {
			at := time.Date(2024, 1, 1, v%24, v, v, 0, time.UTC)
			if got, want := s.sec>>v&1 != 0, d.matches(t, 0, at); got != want {
				t.Fatalf("sec %d: %v, gronx %v", v, got, want)
			}
			if got, want := s.min>>v&1 != 0, d.matches(t, 1, at); got != want {
				t.Fatalf("min %d: %v, gronx %v", v, got, want)
			}
			if got, want := s.hour>>(v%24)&1 != 0, d.matches(t, 2, at); got != want {
				t.Fatalf("hour %d: %v, gronx %v", v%24, got, want)
			}
		}
		after := genInstant(t, "after")
		tod := int64(s.nextOfDay(0))
		for day := max(0, after/daySeconds); day < after/daySeconds+150; day++ {
			at := time.Unix(day*daySeconds+tod, 0).UTC()
			if at.Year() > maxYear {
				break
			}
			if got, want := s.Due(at.Unix()), d.due(t, at, or); got != want {
				t.Fatalf("%+v or=%v: due at %v is %v, gronx says %v", d.fields, or, at, got, want)
			}
		}
		for range 5 {
			next, ok := s.NextUnix(after)
			if !ok {
				break
			}
			if at := time.Unix(next, 0).UTC(); !d.due(t, at, or) {
				t.Fatalf("%+v or=%v: next is %v, not due for gronx", d.fields, or, at)
			}
			after = next
		}
	})
}

// TestNextIsNext checks in random zones that the next instant is later, due, and the first that is due.
func TestNextIsNext(t *testing.T) {
	zones := readZones(t)
	rapid.Check(t, func(t *rapid.T) {
		d, or := genSchedule(t), rapid.Bool().Draw(t, "or")
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		loc, err := LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Compile(d.fields, Options{Location: loc, Or: or})
		if err != nil {
			t.Fatalf("%+v: %v", d.fields, err)
		}
		after := genInstant(t, "after")
		next, ok := s.NextUnix(after)
		if ok && (next <= after || !s.Due(next)) {
			t.Fatalf("%+v %s: next after %d is %d, due %v", d.fields, zone, after, next, s.Due(next))
		}
		end := next
		if !ok {
			end = daysBefore(2101, 1) * daySeconds
		}
		for u := after + 1; u < min(end, after+4000); u++ {
			if s.Due(u) {
				t.Fatalf("%+v %s: next after %d is %d, but %d is due too", d.fields, zone, after, next, u)
			}
		}
		if end-1 <= after {
			return
		}
		for range 20 {
			u := rapid.Int64Range(after, end-1).Draw(t, "between")
			if again, okAgain := s.NextUnix(u); again != next && ok || okAgain != ok {
				t.Fatalf("%+v %s: next after %d is %d %v, after %d it is %d %v", d.fields, zone, after, next, ok, u, again, okAgain)
			}
		}
	})
}

// TestStepsLikeGronx follows gronx's own search in UTC, which ORs the day fields as Vixie's cron does.
func TestStepsLikeGronx(t *testing.T) {
	exprs := []string{
		"* * * * * *", "*/10 * * * * *", "0 */7 * * * *", "0 0 2 * * *", "0 30 4 * * 1", "0 0 9-17 * * 1-5", "0 0 0 13 * 5",
		"0 0 0 1,15 * 3", "0 15 10 L * *", "0 15 10 * * 5L", "0 0 12 15W * *", "0 0 0 * * 3#2", "0 5 4 29 2 *", "30 0 0 */2 * 1",
		"0 0 0 1 */3 *", "59 59 23 31 12 *", "0 0 0 31 * 0", "5-50/15 1/20 */5 * 2-11/3 0-6/2",
	}
	start := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	for _, expr := range exprs {
		_, s, err := Parse(expr, Options{Or: true})
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		for at, i := start, 0; i < 200; i++ {
			want, err := gronx.NextTickAfter(expr, at, false)
			if err != nil || !want.After(at) {
				t.Fatalf("gronx gives up on %q after %v: %v, %v", expr, at, want, err)
			}
			if want.Year() > maxYear {
				break
			}
			got, ok := s.Next(at)
			if !ok || !got.Equal(want) {
				t.Fatalf("%q after %v: %v %v, gronx %v", expr, at, got, ok, want)
			}
			at = got
		}
	}
}
