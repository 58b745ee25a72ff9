package crash

import "testing"

func TestSampleNamesPointsOnce(t *testing.T) {
	seen := map[Case]bool{}
	for _, c := range Sample(600) {
		if _, err := ParseCase(c.String()); err != nil {
			t.Error(err)
		}
		if seen[c] {
			t.Errorf("%s comes twice", c)
		}
		seen[c] = true
	}
	if n := len(Sample(60)); n < 8 {
		t.Errorf("%d cases in a minute", n)
	}
}
