package cronexpr

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// zoneField is the name under which errors speak of the zone.
const zoneField = "timezone"

// hostZones are names under which a host's own zone or a test zone lies in the directory of the zones: two nodes would disagree.
var hostZones = []string{"Local", "local", "localtime", "posixrules", "Factory"}

// LoadLocation returns a time zone by its IANA name; "" and "UTC" are UTC. Every call reads the zone anew, so keep what it
// returns. The error is of type FieldError. A command must import time/tzdata if it is to work where the host has no zone files.
func LoadLocation(name string) (*time.Location, error) {
	fail := func(msg, hint string) (*time.Location, error) {
		return nil, FieldError{Field: zoneField, Len: len(name), Text: shown(name), Msg: msg, Hint: hint}
	}
	switch {
	case name == "" || name == "UTC":
		return time.UTC, nil
	case slices.Contains(hostZones, name) || strings.HasPrefix(name, "posix/") || strings.HasPrefix(name, "right/"):
		return fail("the zone is not the same on every host", `write an IANA name such as "Europe/Bucharest", or "UTC"`)
	case len(name) > maxField || !isASCII(name):
		return fail("this is not the name of a zone", `write an IANA name such as "Europe/Bucharest", or "UTC"`)
	}
	if loc, err := time.LoadLocation(name); err == nil {
		return loc, nil
	}
	if strings.EqualFold(name, "utc") || strings.EqualFold(name, "z") {
		return fail("the zone is not known", `write "UTC"`)
	}
	if strings.ContainsAny(name, "+-:0123456789") {
		return fail("an offset is not a zone", `write an IANA name such as "Europe/Bucharest"; "Etc/GMT-2" is two hours east of UTC`)
	}
	if fixed := recased(name); fixed != name {
		if _, err := time.LoadLocation(fixed); err == nil {
			return fail("the zone is not known", fmt.Sprintf("write %q", fixed))
		}
	}
	return fail("the zone is not known", `write an IANA name such as "Europe/Bucharest", or "UTC"`)
}

// recased writes a name the way that most zones' names are written: europe/bucharest as Europe/Bucharest.
func recased(name string) string {
	up := true
	return strings.Map(func(r rune) rune {
		s := strings.ToLower(string(r))
		if up {
			s = strings.ToUpper(s)
		}
		up = r == '/' || r == '_' || r == ' '
		if r == ' ' {
			return '_'
		}
		return []rune(s)[0]
	}, name)
}
