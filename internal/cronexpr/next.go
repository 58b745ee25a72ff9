package cronexpr

import "math/bits"

// A wall second counts the seconds of the wall clock since 1970-01-01 00:00:00 as that clock shows it, as if it were in UTC.

// nextWall returns the first matching wall second that is not before w.
func (s *Schedule) nextWall(w int64) (int64, bool) {
	if w > s.last {
		return 0, false
	}
	w = max(w, 0)
	day, tod := w/daySeconds, w%daySeconds
	d := civil(day)
	if s.dayMatches(d) {
		if t := s.nextOfDay(int(tod)); t >= 0 {
			return day*daySeconds + int64(t), true
		}
	}
	day, ok := s.nextDay(d)
	return day*daySeconds + s.firstOfDay, ok
}

// wallMatches reports whether the wall second w matches.
func (s *Schedule) wallMatches(w int64) bool {
	if w < 0 || w > s.last {
		return false
	}
	tod := int(w % daySeconds)
	if s.sec>>(tod%60)&1 == 0 || s.min>>(tod/60%60)&1 == 0 || s.hour>>(tod/3600)&1 == 0 {
		return false
	}
	return s.dayMatches(civil(w / daySeconds))
}

func (s *Schedule) dayMatches(d date) bool {
	return s.monthDays(d)>>d.day&1 != 0
}

// monthDays returns the matching days of d's month as bits; none where month or year don't match.
func (s *Schedule) monthDays(d date) uint32 {
	y := d.year - minYear
	if s.mon>>d.month&1 == 0 || uint(y) >= uint(64*len(s.years)) || s.years[y>>6]>>(y&63)&1 == 0 {
		return 0
	}
	return s.days[monthLen(d.year, d.month)-28][weekday(d.first)]
}

// nextOfDay returns the first matching second of the day that is not before tod, or -1.
func (s *Schedule) nextOfDay(tod int) int {
	h, m, sec := tod/3600, tod/60%60, tod%60
	if s.hour>>h&1 != 0 {
		if s.min>>m&1 != 0 {
			if rest := s.sec >> sec; rest != 0 {
				return tod + bits.TrailingZeros64(rest)
			}
		}
		if rest := s.min >> (m + 1); rest != 0 {
			return h*3600 + (m+1+bits.TrailingZeros64(rest))*60 + bits.TrailingZeros64(s.sec)
		}
	}
	rest := s.hour >> (h + 1)
	if rest == 0 {
		return -1
	}
	return (h+1+bits.TrailingZeros32(rest))*3600 + bits.TrailingZeros64(s.min)*60 + bits.TrailingZeros64(s.sec)
}

// nextDay returns the first matching day after d, as days since 1970-01-01.
func (s *Schedule) nextDay(d date) (int64, bool) {
	if rest := s.monthDays(d) >> (d.day + 1); rest != 0 {
		return d.first + int64(d.day+bits.TrailingZeros32(rest)), true
	}
	for {
		rest := s.mon >> (d.month + 1)
		if rest != 0 {
			d.month += 1 + bits.TrailingZeros16(rest)
		} else {
			d.year++
			d.month = bits.TrailingZeros16(s.mon)
		}
		if d.year > maxYear {
			return 0, false
		}
		d.first = daysBefore(d.year, d.month)
		if days := s.monthDays(d); days != 0 {
			return d.first + int64(bits.TrailingZeros32(days)) - 1, true
		}
	}
}

// lastWall returns the last second of the last matching day, or -1. With it a schedule that is over, or never was, answers at
// once.
func (s *Schedule) lastWall() int64 {
	for y := maxYear; y >= minYear; y-- {
		for m := 12; m >= 1; m-- {
			first := daysBefore(y, m)
			if days := s.monthDays(date{year: y, month: m, first: first}); days != 0 {
				return (first+int64(bits.Len32(days))-1)*daySeconds - 1
			}
		}
	}
	return -1
}

// date is a day of the calendar; first is its month's first day in days since 1970-01-01.
type date struct {
	year, month, day int
	first            int64
}

// civil converts days since 1970-01-01, not negative, into a date. Years are counted from March, so that the leap day is a
// year's last and 153 days are five months.
func civil(day int64) date {
	z := uint64(day) + 719468 // since 0000-03-01
	era := z / 146097
	doe := z % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d := int(doy-(153*mp+2)/5) + 1
	m := int(mp) + 3
	y := int(yoe + era*400)
	if m > 12 {
		m -= 12
		y++
	}
	return date{year: y, month: m, day: d, first: day - int64(d) + 1}
}

// daysBefore returns the days from 1970-01-01 to the first of a month, for years from 1.
func daysBefore(year, month int) int64 {
	if month <= 2 {
		month += 12
		year--
	}
	return int64(365*year+year/4-year/100+year/400+(153*(month-3)+2)/5) - 719468
}

// weekday returns the weekday (0 is Sunday) of a day since 1970-01-01, a Thursday.
func weekday(day int64) int { return int((day + 4) % 7) }

func monthLen(year, month int) int {
	switch month {
	case 2:
		if isLeap(year) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func isLeap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }
