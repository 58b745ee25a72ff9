package cronexpr

import (
	"testing"
	"time"
)

var benchCases = []struct{ name, expr, zone string }{
	{"utc/every10s", "*/10 * * * * * *", "UTC"},
	{"utc/every5min", "0 */5 * * * * *", "UTC"},
	{"utc/daily", "0 0 2 * * * *", "UTC"},
	{"utc/weekday", "0 30 4 * * 1 *", "UTC"},
	{"utc/monthly", "0 0 0 1 * * *", "UTC"},
	{"utc/lastFriday", "0 0 0 * * L5 *", "UTC"},
	{"utc/leapday", "0 0 0 29 2 * *", "UTC"},
	{"zone/every10s", "*/10 * * * * * *", "Europe/Bucharest"},
	{"zone/every5min", "0 */5 * * * * *", "Europe/Bucharest"},
	{"zone/daily", "0 0 2 * * * *", "Europe/Bucharest"},
	{"zone/weekday", "0 30 4 * * 1 *", "Europe/Bucharest"},
	{"zone/monthly", "0 0 0 1 * * *", "Europe/Bucharest"},
	{"zone/steady", "0 0 2 * * * *", "Asia/Tokyo"},
}

// benchStart is 2026-11-23 05:00:00 UTC.
const benchStart = 1795410000

// BenchmarkNextUnix steps from one due instant to the next, as the scheduler does.
func BenchmarkNextUnix(b *testing.B) {
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			s := mustCompile(b, c.expr, Options{Location: mustZone(b, c.zone)})
			b.ReportAllocs()
			at := int64(benchStart)
			for b.Loop() {
				next, ok := s.NextUnix(at)
				if !ok || next > benchStart+10*366*daySeconds {
					next = benchStart
				}
				at = next
			}
		})
	}
}

// BenchmarkNever asks for what never comes.
func BenchmarkNever(b *testing.B) {
	for _, expr := range []string{"0 0 0 30 2 * *", "* * * * * * 2020"} {
		b.Run(expr, func(b *testing.B) {
			s := mustCompile(b, expr, Options{})
			for b.Loop() {
				if _, ok := s.NextUnix(benchStart); ok {
					b.Fatal("due")
				}
			}
		})
	}
}

// BenchmarkDue asks second by second.
func BenchmarkDue(b *testing.B) {
	for _, c := range benchCases[:3] {
		for _, zone := range []string{"UTC", "Europe/Bucharest"} {
			b.Run(c.name+"/"+zone, func(b *testing.B) {
				s := mustCompile(b, c.expr, Options{Location: mustZone(b, zone)})
				b.ReportAllocs()
				at := int64(benchStart)
				for b.Loop() {
					s.Due(at)
					at++
				}
			})
		}
	}
}

// BenchmarkCompile compiles what a file of jobs holds.
func BenchmarkCompile(b *testing.B) {
	for _, expr := range []string{"0 0 2 * * * *", "*/10 * * * * * *", "0 0,30 8-18/2 1-7 jan-jun 1-5 2026-2030", "0 0 0 15W * * *"} {
		b.Run(expr, func(b *testing.B) {
			f, _ := seven(expr)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile(f, Options{Location: time.UTC}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
