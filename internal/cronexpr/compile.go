package cronexpr

import (
	"fmt"
	"strconv"
	"time"

	"github.com/adhocore/gronx"
)

// fill makes the bit sets. What an item means is asked of gronx, item by item and value by value: asked for a whole list, it
// stops at the first item that is due and leaves the others unread. Only Zn, which gronx doesn't know, is ours.
func (s *Schedule) fill(items [7][]item, or bool) Errors {
	a := authority{}
	s.sec = a.values(&specs[0], items[0])[0]
	s.min = a.values(&specs[1], items[1])[0]
	s.hour = uint32(a.values(&specs[2], items[2])[0])
	s.mon = uint16(a.values(&specs[4], items[4])[0] << 1)
	s.years = a.values(&specs[6], items[6])
	or = or && !isStar(s.fields.Dom) && !isStar(s.fields.Dow)
	dom, dow := a.days(&specs[posDom], items[posDom]), a.days(&specs[posDow], items[posDow])
	for i := range s.days {
		for j := range s.days[i] {
			if or {
				s.days[i][j] = dom[i][j] | dow[i][j]
			} else {
				s.days[i][j] = dom[i][j] & dow[i][j]
			}
		}
	}
	return a.errs
}

// authority asks gronx what items mean.
type authority struct {
	gronx gronx.SegmentChecker
	errs  Errors
}

func (a *authority) due(f *spec, it item, text string, ref time.Time) bool {
	a.gronx.SetRef(ref)
	due, err := a.gronx.CheckDue(text, f.pos)
	if err != nil && (len(a.errs) == 0 || a.errs[len(a.errs)-1].Text != it.text) {
		a.errs = append(a.errs, FieldError{Field: f.name, Offset: it.offset, Len: len(it.text), Text: it.text,
			Msg: "the meaning is unclear: " + err.Error(), Hint: "write the values as a list"})
	}
	return due
}

// values returns the matching values of a field other than the days, as bits from the field's minimum.
func (a *authority) values(f *spec, items []item) (set [3]uint64) {
	for _, it := range items {
		text := it.gronx()
		for v := f.min; v <= f.max; v++ {
			if it.kind == kindAny || a.due(f, it, text, refOf(f, v)) {
				bit := v - f.min
				set[bit>>6] |= 1 << (bit & 63)
			}
		}
	}
	return set
}

// refOf returns an instant at which the field has a value.
func refOf(f *spec, v int) time.Time {
	at := [7]int{0, 0, 0, 1, 1, 0, 2024}
	at[f.pos] = v
	return time.Date(at[6], time.Month(at[4]), at[3], at[2], at[1], at[0], 0, time.UTC)
}

// monthSets holds matching days as bits by day, for each length and first weekday of a month.
type monthSets [4][7]uint32

// days returns the matching days for dom or dow.
func (a *authority) days(f *spec, items []item) (sets monthSets) {
	for _, it := range items {
		switch it.kind {
		case kindAny:
			sets.add(func(length, _ int) uint32 { return 1<<(length+1) - 2 })
		case kindBefore:
			sets.add(func(length, _ int) uint32 {
				return (1<<(length-it.lo+1) - 1) &^ (1<<(length-it.hi) - 1)
			})
		case kindSpan:
			a.plainDays(&sets, f, it)
		default:
			a.askDays(&sets, f, it)
		}
	}
	return sets
}

func (m *monthSets) add(days func(length, first int) uint32) {
	for i := range m {
		for first := range m[i] {
			m[i][first] |= days(28+i, first)
		}
	}
}

// plainDays adds an item that speaks of values only: January 2024 has all 31 days, and 7 to 13 are Sunday to Saturday.
func (a *authority) plainDays(sets *monthSets, f *spec, it item) {
	var byValue [32]bool
	text := it.gronx()
	for v := f.min; v <= f.max; v++ {
		day := v
		if f.pos == posDow {
			day = 7 + v%7
		}
		byValue[v] = a.due(f, it, text, time.Date(2024, 1, day, 0, 0, 0, 0, time.UTC))
	}
	sets.add(func(length, first int) (days uint32) {
		for d := 1; d <= length; d++ {
			v := d
			if f.pos == posDow {
				v = (first + d - 1) % 7
			}
			if byValue[v] {
				days |= 1 << d
			}
		}
		return days
	})
}

// askDays adds an item whose meaning depends on the shape of the month.
func (a *authority) askDays(sets *monthSets, f *spec, it item) {
	months := shapes()
	sets.add(func(length, first int) (days uint32) {
		for _, text := range it.gronxDays() {
			for d := 1; d <= length; d++ {
				if a.due(f, it, text, months[length-28][first].AddDate(0, 0, d-1)) {
					days |= 1 << d
				}
			}
		}
		return days
	})
}

// shapes gives a month, by its first day, of each length less 28 and first weekday.
func shapes() (months [4][7]time.Time) {
	for left, t := 28, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC); left > 0; t = t.AddDate(0, 1, 0) {
		shape := &months[monthLen(t.Year(), int(t.Month()))-28][t.Weekday()]
		if shape.IsZero() {
			*shape = t
			left--
		}
	}
	return months
}

// gronx writes a span in gronx's words: always with both ends, since there `N/step` has no end.
func (it item) gronx() string {
	switch {
	case it.lo == it.hi:
		return strconv.Itoa(it.lo)
	case it.step > 1:
		return fmt.Sprintf("%d-%d/%d", it.lo, it.hi, it.step)
	}
	return fmt.Sprintf("%d-%d", it.lo, it.hi)
}

// gronxDays writes an item that depends on the month in gronx's words.
func (it item) gronxDays() (texts []string) {
	switch it.kind {
	case kindLast:
		return []string{"L"}
	case kindNearest:
		return []string{fmt.Sprintf("%dW", it.lo)}
	case kindNth:
		return []string{fmt.Sprintf("%d#%d", it.lo, it.hi)}
	}
	for day := it.lo; day <= it.hi; day++ {
		texts = append(texts, fmt.Sprintf("%dL", day))
	}
	return texts
}
