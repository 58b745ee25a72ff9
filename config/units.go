package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest duration that a setting takes.
const maxDuration = 10 * 366 * 24 * time.Hour

const durationHint = `write seconds as a number, or such as 90s, 5m, 2h, 1d`

// parseDuration reads seconds ("90", "0.5") or numbers with units ("1h30m", "2d", "1w", "500ms").
func parseDuration(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	if seconds, err := strconv.ParseFloat(rest, 64); err == nil {
		return secondsToDuration(seconds)
	}
	total := 0.0
	for rest != "" {
		n, unit, after := cutNumber(rest)
		scale, ok := durationUnits[unit]
		value, err := strconv.ParseFloat(n, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("%q is not a duration", text)
		}
		total += value * scale
		rest = strings.TrimLeft(after, " ")
	}
	return secondsToDuration(total)
}

var durationUnits = map[string]float64{"ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

func secondsToDuration(s float64) (time.Duration, error) {
	switch {
	case math.IsNaN(s) || s < 0:
		return 0, fmt.Errorf("a duration is not negative")
	case s > maxDuration.Seconds():
		return 0, fmt.Errorf("a duration of more than 10 years")
	}
	return time.Duration(math.Round(s*1e3)) * time.Millisecond, nil
}

// cutNumber cuts "5m30s" into "5", "m" and "30s".
func cutNumber(s string) (number, unit, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return s, "", ""
	}
	number, s = s[:i], strings.TrimLeft(s[i:], " ")
	if j := strings.IndexFunc(s, func(r rune) bool { return r < 'A' || (r > 'Z' && r < 'a') || r > 'z' }); j >= 0 {
		return number, s[:j], s[j:]
	}
	return number, s, ""
}

const sizeHint = `write bytes as a number, or such as 64KiB, 1MiB, 2GiB`

var sizeUnits = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// parseSize reads bytes ("1048576") or a number with a unit ("1MiB", "500 kB").
func parseSize(text string) (int64, error) {
	n, unit, rest := cutNumber(strings.TrimSpace(text))
	scale, ok := sizeUnits[strings.ToLower(unit)]
	value, err := strconv.ParseFloat(n, 64)
	if !ok || err != nil || rest != "" {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	if value *= scale; value > 1<<50 {
		return 0, fmt.Errorf("a size of more than 1 PiB")
	}
	return int64(math.Round(value)), nil
}

// showDuration gives a duration as people would write it: 90s, 5m, 2h, 1d.
func showDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit && d%u.unit == 0 {
			return fmt.Sprintf("%d%s", d/u.unit, u.name)
		}
	}
	if d == 0 {
		return "0"
	}
	return d.String()
}

// showSize gives a size as people would write it.
func showSize(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.unit && n%u.unit == 0 {
			return fmt.Sprintf("%d%s", n/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
