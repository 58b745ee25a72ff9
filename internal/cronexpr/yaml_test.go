package cronexpr

import (
	"strings"
	"testing"
)

func TestCheckPlain(t *testing.T) {
	for text, want := range map[string][]string{
		"010":     {"8", "10"},
		"007":     {"7"},
		"0123456": {"42798", "123456"},
		"080":     {"80"},
		"1:30":    {"90", "time of day"},
		"12:30:5": {"45005"},
		"0":       nil, "00": nil, "08": nil, "09": nil, "10": nil, "*/5": nil, "0-5": nil, "001-5": nil, "jan": nil, "": nil, ":": nil,
	} {
		err := CheckPlain("min", text)
		if (err != nil) != (want != nil) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v doesn't name %s", text, err, part)
			}
		}
	}
}
