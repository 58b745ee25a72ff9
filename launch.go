package saltpeter

import (
	"fmt"
	"strconv"
	"time"
)

// LaunchID is a launch's identity: microseconds since 1970, made unique and increasing by the state machine
// (max(last + 1, now)). Salt sees it as a jid of 20 digits, YYYYMMDDhhmmssµµµµµµ in UTC.
type LaunchID int64

const jidLayout = "20060102150405"

// LaunchIDAt gives the launch id that lies at t.
func LaunchIDAt(t time.Time) LaunchID { return LaunchID(t.UnixMicro()) }

// String gives the 20 digits.
func (l LaunchID) String() string {
	t := time.UnixMicro(int64(l)).UTC()
	return fmt.Sprintf("%s%06d", t.Format(jidLayout), t.Nanosecond()/1000)
}

// Time gives the instant of the id.
func (l LaunchID) Time() time.Time { return time.UnixMicro(int64(l)).UTC() }

// ParseLaunchID is the inverse of String.
func ParseLaunchID(s string) (LaunchID, error) {
	if len(s) != 20 {
		return 0, fmt.Errorf("parse launch id %q: want 20 digits", s)
	}
	t, err := time.ParseInLocation(jidLayout, s[:14], time.UTC)
	if err != nil {
		return 0, fmt.Errorf("parse launch id %q: %w", s, err)
	}
	micros, err := strconv.ParseUint(s[14:], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse launch id %q: %w", s, err)
	}
	return LaunchID(t.UnixMicro() + int64(micros)), nil
}

// Launch is one launch of a run's batch as a launcher needs it.
type Launch struct {
	ID       LaunchID
	Run      uint64
	RunID    string
	Job      string
	Machines []string
	Targets  []uint32 // positions of Machines in the run
	// AllMatched says that the batch is all that the job's expression matched, so that a launcher may publish to the
	// expression instead of to a list.
	AllMatched bool
}

// Resolved is one machine of a launcher's answer to a target expression.
type Resolved struct {
	Machine string
	Up      bool
}
