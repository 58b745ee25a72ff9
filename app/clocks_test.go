package app

import (
	"testing"
	"time"
)

func TestAheadOfTheMedian(t *testing.T) {
	s := time.Second
	tests := map[string]struct {
		offsets []time.Duration
		voters  int
		want    time.Duration
		fails   bool
	}{
		"all agree":             {[]time.Duration{0, 0, 0}, 3, 0, false},
		"this one is ahead":     {[]time.Duration{0, -10 * s, -10 * s}, 3, 10 * s, false},
		"this one is behind":    {[]time.Duration{0, 7 * s, 8 * s}, 3, -7 * s, false},
		"another is off":        {[]time.Duration{0, 3600 * s, 0}, 3, 0, false},
		"one is down":           {[]time.Duration{0, -4 * s}, 3, 2 * s, false},
		"two are far apart":     {[]time.Duration{0, -12 * s}, 3, 0, true},
		"all are far apart":     {[]time.Duration{0, -12 * s, 12 * s}, 3, 0, true},
		"no majority":           {[]time.Duration{0}, 3, 0, true},
		"two of four":           {[]time.Duration{0, 0}, 4, 0, true},
		"the order is no order": {[]time.Duration{9 * s, 0, 1 * s, 2 * s, -9 * s}, 5, -1 * s, false},
	}
	for name, tt := range tests {
		got, err := aheadOf(tt.offsets, tt.voters)
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
