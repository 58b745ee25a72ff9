package cronexpr

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// deep makes the zone tests visit every change of every zone instead of a few.
var deep = os.Getenv("SALTPETER_CRON_DEEP") != ""

// readZones returns the names of all zones but the artificial one.
func readZones(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Fields(string(data)), func(name string) bool { return name == "Factory" })
}

// shifts lists the changes of a zone's offset from 1970 to 2099.
func shifts(t testing.TB, loc *time.Location) (all []stretch) {
	t.Helper()
	end := daysBefore(2100, 1) * daySeconds
	for c := int64(-maxSwing); c < end; {
		z := stretchAt(loc, c)
		if z.start > c || z.end <= c || z.offset != offsetAt(loc, c) {
			t.Fatalf("%s: the stretch at %d is %+v", loc, c, z)
		}
		if z.start == c && z.offset != z.previous {
			all = append(all, z)
		}
		c = z.end
		if c == math.MaxInt64 {
			break
		}
	}
	return all
}

// TestChangesLieApart holds what stretch relies on: no two changes of a zone within the longest shift.
func TestChangesLieApart(t *testing.T) {
	for _, name := range readZones(t) {
		changes := shifts(t, mustZone(t, name))
		for i := 1; i < len(changes); i++ {
			if changes[i].start-changes[i-1].start <= 2*maxShift {
				t.Errorf("%s: changes at %d and %d", name, changes[i-1].start, changes[i].start)
			}
		}
	}
}

// TestEveryZone compares the instants around changes of every zone with a second-by-second reading of the rule.
func TestEveryZone(t *testing.T) {
	checked := 0
	for _, name := range readZones(t) {
		loc := mustZone(t, name)
		h := fnv.New64a()
		h.Write([]byte(name))
		rng := rand.New(rand.NewPCG(h.Sum64(), 1))
		changes := shifts(t, loc)
		rng.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		if !deep {
			changes = changes[:min(len(changes), 2)]
		}
		for _, z := range changes {
			for range 4 {
				compareAround(t, loc, z, randomNear(rng, z))
				checked++
			}
		}
	}
	t.Logf("%d schedules compared around changes", checked)
}

// randomNear makes a schedule that is likely to be due near the change.
func randomNear(rng *rand.Rand, z stretch) string {
	wall := z.start + min(z.previous, z.offset)
	hour := int(wall/3600%24+24) % 24
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	sec := pick("0", "0", "0", "*/20", "0,30", "7")
	minute := pick("0", "30", "0,30", "*/15", "10-50/10", "0/20", "59", "*")
	hours := pick("*", "*/2", "0-23", fmt.Sprint(hour), fmt.Sprint(hour), fmt.Sprintf("%d,%d", hour, (hour+1)%24), "0/1", "23,0,1")
	dom := pick("*", "*", "*", "L", fmt.Sprint(civil(max(wall, 0)/daySeconds).day))
	return strings.Join([]string{sec, minute, hours, dom, "*", "*", "*"}, " ")
}

// compareAround compares Next and Due with the rule, read literally, from some hours before a change to some hours after it.
func compareAround(t *testing.T, loc *time.Location, z stretch, expr string) {
	t.Helper()
	s := mustCompile(t, expr, Options{Location: loc})
	before, after := int64(4*3600), int64(5*3600)
	first := z.start - before
	offsets := make([]int64, before+after)
	for i := range offsets {
		offsets[i] = z.previous
		if first+int64(i) >= z.start {
			offsets[i] = z.offset
		}
	}
	for i := 0; i < len(offsets); i += 900 {
		if u := first + int64(i); offsetAt(loc, u) != offsets[i] {
			t.Fatalf("%s: another change near %d", loc, z.start)
		}
	}
	next, ok := s.NextUnix(first - 1)
	for i, offset := range offsets {
		u := first + int64(i)
		want := literal(s, z, u, offset)
		if got := s.Due(u); got != want {
			t.Fatalf("%q in %s: due at %v is %v, want %v (change %+v)", expr, loc, time.Unix(u, 0).In(loc), got, want, z)
		}
		if want != (ok && next == u) {
			t.Fatalf("%q in %s: at %v due is %v, the next found was %v", expr, loc, time.Unix(u, 0).In(loc), want, time.Unix(next, 0).In(loc))
		}
		if want {
			next, ok = s.NextUnix(u)
		}
	}
}

// literal is the rule for one change, as it is written down.
func literal(s *Schedule, z stretch, u, offset int64) bool {
	texts := s.fields.texts()
	interval := texts[0][0] == '*' || texts[1][0] == '*' || texts[2][0] == '*'
	shift := z.offset - z.previous
	if interval || max(shift, -shift) > 3*3600 {
		return s.wallMatches(u + offset)
	}
	if u == z.start {
		for w := u + z.previous; w < u+z.offset; w++ {
			if s.wallMatches(w) {
				return true
			}
		}
	}
	if w := u + offset; u >= z.start && w < z.start+z.previous {
		return false
	}
	return s.wallMatches(u + offset)
}

// TestBeyondTheTable walks over the last day of the leap years in which the time package names an end that lies behind.
func TestBeyondTheTable(t *testing.T) {
	s := mustCompile(t, "0 0 12 * * * *", Options{Location: mustZone(t, "Europe/Bucharest")})
	at := mustTime(t, "2038-06-01T00:00:00Z")
	days := 0
	for ; at.Year() < maxYear; days++ {
		next, ok := s.Next(at)
		if !ok || next.Hour() != 12 || next.Sub(at) > 26*time.Hour {
			t.Fatalf("after %v: %v, %v", at, next, ok)
		}
		at = next
	}
	if want := int(daysBefore(2099, 1)-daysBefore(2038, 6)) + 1; days != want {
		t.Errorf("%d days, want %d", days, want)
	}
}

// TestSkippedDate: Samoa went from 29 to 31 December 2011; what is due on the 30th does not run, also as a fixed job.
func TestSkippedDate(t *testing.T) {
	loc := mustZone(t, "Pacific/Apia")
	s := mustCompile(t, "0 0 12 29-31 12 * 2011", Options{Location: loc})
	var got []string
	for at := mustTime(t, "2011-12-01T00:00:00Z"); ; {
		next, ok := s.Next(at)
		if !ok {
			break
		}
		got, at = append(got, next.Format("01-02 15:04")), next
	}
	if want := []string{"12-29 12:00", "12-31 12:00"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
