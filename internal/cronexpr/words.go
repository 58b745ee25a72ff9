package cronexpr

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Words returns the schedule in a few words for a table where it is simple ("every 10 s", "02:00 daily", "Mon 04:30"), else
// the expression in its shortest form; in a zone other than UTC with that zone ("02:00 daily (Europe/Bucharest)").
func (s *Schedule) Words() string {
	words := s.simpleWords()
	if words == "" {
		words = s.fields.short()
	}
	if s.loc != time.UTC {
		words += " (" + s.loc.String() + ")"
	}
	return words
}

// short writes the fields as an expression without the fields that have their defaults.
func (f Fields) short() string {
	texts := f.texts()
	for i, text := range texts {
		texts[i] = trim(text)
	}
	switch {
	case texts[6] != "*":
		return strings.Join(texts[:], " ")
	case texts[0] != "0":
		return strings.Join(texts[:6], " ")
	}
	return strings.Join(texts[1:6], " ")
}

func (s *Schedule) simpleWords() string {
	if trim(s.fields.Year) != "*" || trim(s.fields.Mon) != "*" {
		return ""
	}
	days, ok := s.dayWords()
	if !ok {
		return ""
	}
	if bits.OnesCount64(s.sec) == 1 && bits.OnesCount64(s.min) == 1 && bits.OnesCount32(s.hour) == 1 {
		at := clock(bits.TrailingZeros32(s.hour), bits.TrailingZeros64(s.min), bits.TrailingZeros64(s.sec))
		if days == "" {
			return at + " daily"
		}
		return days + " " + at
	}
	every := s.everyWords()
	if every == "" || days == "" {
		return every
	}
	return days + " " + every
}

func clock(h, m, sec int) string {
	if sec == 0 {
		return fmt.Sprintf("%02d:%02d", h, m)
	}
	return fmt.Sprintf("%02d:%02d:%02d", h, m, sec)
}

// everyWords names a schedule whose instants lie equally far apart within a day.
func (s *Schedule) everyWords() string {
	sec, min, hour := trim(s.fields.Sec), trim(s.fields.Min), trim(s.fields.Hour)
	switch {
	case min == "*" && hour == "*" && sec != "0":
		return interval(sec, 60, "s")
	case s.sec != 1:
		return ""
	case hour == "*" && bits.OnesCount64(s.min) != 1:
		return interval(min, 60, "min")
	case bits.OnesCount64(s.min) == 1:
		every := interval(hour, 24, "h")
		if every == "" || s.min == 1 {
			return every
		}
		return fmt.Sprintf("%s at :%02d", every, bits.TrailingZeros64(s.min))
	}
	return ""
}

// interval names `*` and those `*/n` that go on evenly over the end of the field.
func interval(text string, size int, unit string) string {
	if text == "*" {
		return "every 1 " + unit
	}
	step, ok := strings.CutPrefix(text, "*/")
	n, err := strconv.Atoi(step)
	if !ok || err != nil || n < 1 || size%n != 0 {
		return ""
	}
	return fmt.Sprintf("every %d %s", n, unit)
}

// dayWords names the days, "" where it is every day; false where there are no few words for them.
func (s *Schedule) dayWords() (string, bool) {
	dom, dow := trim(s.fields.Dom), trim(s.fields.Dow)
	allDom, allDow := dom == "*" || dom == "?", dow == "*" || dow == "?"
	switch {
	case allDom && allDow:
		return "", true
	case allDow && strings.EqualFold(dom, "L"):
		return "last day", true
	case allDow:
		n, ok := digits(dom)
		return "day " + strconv.Itoa(n), ok
	case allDom && !isDowSpecial(strings.ToLower(dow)):
		return s.weekdayWords(), true
	}
	return "", false
}

// weekdayWords names the days of the week from Monday on, three or more in a row as a range.
func (s *Schedule) weekdayWords() string {
	week := s.days[0][1] >> 1 & 0x7f // the first week of a month that begins on a Monday
	var words []string
	for day := 0; day < 7; day++ {
		run := bits.TrailingZeros32(^(week >> day))
		switch {
		case run >= 7:
			return "Mon-Sun"
		case run >= 3:
			words = append(words, weekdayName(day)+"-"+weekdayName(day+run-1))
			day += run
		case run > 0:
			words = append(words, weekdayName(day))
		}
	}
	return strings.Join(words, ",")
}

func weekdayName(fromMonday int) string {
	return time.Weekday((fromMonday + 1) % 7).String()[:3]
}
