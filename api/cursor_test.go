package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// FuzzCursor: any text is either a cursor that encodes to itself, or refused with CodeInvalid.
func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(encodeCursor(cursorJobs, "backup/☃"))
	f.Add(numberCursor(cursorRuns, 1<<64-1))
	f.Add("cjAx")
	f.Add("====")
	f.Fuzz(func(t *testing.T, text string) {
		for _, list := range []byte{cursorJobs, cursorRuns, cursorMachines, cursorSkips} {
			key, err := decodeCursor(list, text)
			if err != nil && saltpeter.CodeOf(err) != saltpeter.CodeInvalid {
				t.Fatalf("decodeCursor(%c, %q) = %v", list, text, err)
			}
			if again, err2 := decodeCursor(list, encodeCursor(list, key)); err == nil && key != "" && (err2 != nil || again != key) {
				t.Fatalf("key %q of %q came back as %q, %v", key, text, again, err2)
			}
			if n, err := decodeNumber(list, text, 63); err == nil && text != "" && n == 0 {
				t.Fatalf("decodeNumber(%c, %q) gave 0", list, text)
			}
		}
	})
}

// FuzzBody: a body never panics, and what is refused has a reason with its place.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"note":"x","machines":["a"],"for":"2h"}`, `{"for":1e400}`, `{"for":-1}`, `null`, `[1]`, `{"until":"2026-01-01T00:00:00Z"}`, `{`, "{\n\"a\":}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var note string
		var machines []string
		var length Duration
		var until Time
		err := decodeObject(raw, fields{"note": &note, "machines": &machines, "for": &length, "until": &until})
		if err == nil && length < 0 {
			t.Fatalf("%q gave the duration %v", raw, time.Duration(length))
		}
		if err != nil && (saltpeter.CodeOf(err) != saltpeter.CodeInvalid || err.Error() == "") {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func TestTime(t *testing.T) {
	tests := []struct {
		in   string
		want string // "" = refused
	}{
		{`null`, `null`}, {`"2026-11-23T07:05:00Z"`, `"2026-11-23T07:05:00.000Z"`}, {`"2026-11-23T09:05:00.1234+02:00"`, `"2026-11-23T07:05:00.123Z"`},
		{`"1969-12-31T23:59:59.999Z"`, `"1969-12-31T23:59:59.999Z"`}, {`"noon"`, ``}, {`5`, ``}, {`"2026-11-23"`, ``},
	}
	for _, test := range tests {
		var got Time
		err := json.Unmarshal([]byte(test.in), &got)
		if (err != nil) != (test.want == "") {
			t.Errorf("%s: error %v", test.in, err)
			continue
		}
		if out, _ := json.Marshal(got); err == nil && string(out) != test.want {
			t.Errorf("%s became %s, want %s", test.in, out, test.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "1.5": 1500 * time.Millisecond, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "0.5d": 12 * time.Hour, "250ms": 250 * time.Millisecond,
	}
	for text, want := range good {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "-1", "-5m", "2w", "NaN", "Inf", "1e300", "999999999999d", "5 m", "five"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}
