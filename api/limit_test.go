package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(time.Second, 3)
		passed := func(who string) (n int) {
			for p.take(who) == 0 {
				n++
			}
			return n
		}
		if got := passed("a"); got != 3 {
			t.Fatalf("a burst of %d, want 3", got)
		}
		if got := passed("b"); got != 3 {
			t.Fatalf("another one's burst is %d", got)
		}
		if wait := p.take("a"); wait != time.Second {
			t.Fatalf("wait %s, want 1s", wait)
		}
		time.Sleep(time.Second)
		if got := passed("a"); got != 1 {
			t.Fatalf("%d after a second, want 1", got)
		}
		time.Sleep(time.Hour)
		if got := passed("a"); got != 3 {
			t.Fatalf("%d after an hour, want 3", got)
		}
		if p.wait("c") != 0 || p.wait("a") == 0 || passed("c") != 3 {
			t.Fatal("looking takes something")
		}
	})
}

// TestPacerForgets: whoever comes under ever new names costs no more memory, and doesn't make it forget who is busy.
func TestPacerForgets(t *testing.T) {
	p := newPacer(time.Hour, 2)
	for i := range 10 * maxPrincipals {
		p.take(fmt.Sprint(i))
		if i%1000 == 0 {
			p.take("busy")
		}
	}
	if n := len(p.young) + len(p.old); n > 2*maxPrincipals {
		t.Errorf("%d are remembered", n)
	}
	if p.wait("busy") == 0 {
		t.Error("one that came all the time was forgotten")
	}
}

func TestNeighbourhood(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:99": "10.0.0.1", "[::ffff:10.0.0.1]:99": "10.0.0.1", "[2001:db8:1:2:3::4]:99": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "@", "": "",
	} {
		if got := neighbourhood(remote); got != want {
			t.Errorf("%q: %q, want %q", remote, got, want)
		}
	}
}

func TestRefusalsAreLoggedAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		r := &refusals{log: slog.New(slog.NewTextHandler(&text, nil)), pace: newPacer(refusedEvery, refusedBurst)}
		c := &call{r: httptest.NewRequest("GET", "/api/v1/jobs", nil)}
		for range 1000 {
			r.note(t.Context(), c, saltpeter.Errorf(saltpeter.CodeUnauthenticated, "no"))
		}
		if n := strings.Count(text.String(), "\n"); n != refusedBurst {
			t.Errorf("%d lines, want %d", n, refusedBurst)
		}
		time.Sleep(refusedEvery)
		r.note(t.Context(), c, saltpeter.Errorf(saltpeter.CodeUnauthenticated, "no"))
		if want := fmt.Sprintf("not_logged=%d", 1000-refusedBurst); !strings.Contains(text.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	})
}

func TestPeersThatAreTrusted(t *testing.T) {
	for _, test := range []struct {
		p     peer
		group int
		want  bool
	}{
		{peer{uid: 0}, 0, true}, {peer{uid: 4711}, 0, false}, {peer{uid: 4711, groups: []uint32{0}}, 0, false},
		{peer{uid: 4711, groups: []uint32{7, 99}}, 99, true}, {peer{uid: 4711, groups: []uint32{7}}, 99, false},
	} {
		if got := test.p.trusted(test.group); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
