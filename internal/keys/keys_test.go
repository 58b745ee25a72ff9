package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixed is a key that tests can name.
func fixed(b byte) Key { return Key(bytes.Repeat([]byte{b}, Size)) }

func mustRing(t *testing.T, keys ...Key) *Ring {
	t.Helper()
	r, err := NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is derived is part of the protocol between releases: a change here locks nodes and wrappers of one release out of
// the other's.
func TestDerivationsAreGolden(t *testing.T) {
	r := mustRing(t, fixed(1))
	d := r.sets[0]
	node, gateway := d.nodes.spki(), d.gateway.spki()
	got := map[string]string{
		"id":     d.id,
		"node":   hex.EncodeToString(node[:]),
		"pin":    Pin(gateway).String(),
		"sni":    Pin(gateway).ServerName(),
		"token":  r.StartToken(1, "c", "20260101000000000000"),
		"gossip": hex.EncodeToString(d.gossip),
	}
	for name, want := range golden {
		if got[name] != want {
			t.Errorf("%s = %s, want %s", name, got[name], want)
		}
	}
}

func TestAuthoritiesAreTheSameOnEveryNode(t *testing.T) {
	a, b := mustRing(t, fixed(1)), mustRing(t, fixed(1))
	if !bytes.Equal(a.sets[0].nodes.cert.Raw, b.sets[0].nodes.cert.Raw) || !bytes.Equal(a.sets[0].gateway.cert.Raw, b.sets[0].gateway.cert.Raw) {
		t.Fatal("one key gave two certificates")
	}
	if a.sets[0].nodes.spki() == a.sets[0].gateway.spki() {
		t.Fatal("nodes and wrappers share an authority")
	}
}

func TestLoadOrCreateWritesOnceAndReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode = %v, %v, want 0600", info.Mode(), err)
	}
	second, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Pin() != second.Pin() {
		t.Fatal("the second start made a key of its own")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	good := fixed(1).Hex()
	tests := map[string]struct {
		text string
		mode os.FileMode
		want error
	}{
		"readable by all": {good, 0o644, ErrExposed},
		"empty":           {"\n# nothing\n", 0o600, ErrKeyFile},
		"short":           {good[:62], 0o600, ErrKeyFile},
		"not hex":         {strings.Repeat("x", 64), 0o600, ErrKeyFile},
		"twice":           {good + "\n" + good, 0o600, ErrKeyFile},
		"too many":        {many(maxListed + 1), 0o600, ErrKeyFile},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); !errors.Is(err, tt.want) {
				t.Fatalf("Load: %v, want %v", err, tt.want)
			}
			if _, err := LoadOrCreate(path); err == nil {
				t.Fatal("LoadOrCreate took it")
			}
			if text, _ := os.ReadFile(path); string(text) != tt.text {
				t.Fatal("the file was changed")
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: %v", err)
	}
}

func many(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(fixed(byte(i)).Hex() + "\n")
	}
	return text.String()
}

func TestKeyDoesNotPrintItself(t *testing.T) {
	k := fixed(7)
	if strings.Contains(k.String(), k.Hex()[:8]) {
		t.Fatalf("String shows the key: %s", k)
	}
}

func TestStartTokens(t *testing.T) {
	old, both, other := mustRing(t, fixed(1)), mustRing(t, fixed(2), fixed(1)), mustRing(t, fixed(3))
	token := old.StartToken(4, "cluster", "launch")
	tests := map[string]struct {
		ring            *Ring
		token           string
		epoch           uint64
		cluster, launch string
		ok              bool
	}{
		"as signed":       {old, token, 4, "cluster", "launch", true},
		"older key":       {both, token, 4, "cluster", "launch", true},
		"unknown key":     {other, token, 4, "cluster", "launch", false},
		"other epoch":     {old, token, 5, "cluster", "launch", false},
		"other cluster":   {old, token, 4, "clusterx", "launch", false},
		"other launch":    {old, token, 4, "cluster", "launch2", false},
		"moved boundary":  {old, token, 4, "clusterl", "aunch", false},
		"empty":           {old, "", 4, "cluster", "launch", false},
		"cut":             {old, token[:42], 4, "cluster", "launch", false},
		"with a newline":  {old, token + "\n", 4, "cluster", "launch", false},
		"last bits wrong": {old, token[:42] + "_", 4, "cluster", "launch", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.ring.VerifyStart(tt.token, tt.epoch, tt.cluster, tt.launch)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrToken) {
				t.Fatalf("VerifyStart: %v, want ok = %v", err, tt.ok)
			}
		})
	}
	if both.StartToken(4, "cluster", "launch") == token {
		t.Fatal("two keys sign alike")
	}
}

func TestLaunchesUnderAKeyOfTheList(t *testing.T) {
	old, both := mustRing(t, fixed(1)), mustRing(t, fixed(2), fixed(1))
	if both.Newest() == old.Newest() || !both.Lists(old.Newest()) || !both.Lists("") || old.Lists(both.Newest()) {
		t.Fatal("the rings don't know what they list")
	}
	token, pin, ok := both.Launch(old.Newest(), 4, "c", "l")
	if !ok || pin != old.Pin() || token != old.StartToken(4, "c", "l") {
		t.Errorf("under the old key: %q, %s, %t", token, pin, ok)
	}
	for _, id := range []string{"", both.Newest()} {
		token, pin, ok = both.Launch(id, 4, "c", "l")
		if !ok || pin != both.Pin() || token != both.StartToken(4, "c", "l") {
			t.Errorf("under %q: %q, %s, %t", id, token, pin, ok)
		}
	}
	if token, _, ok := old.Launch(both.Newest(), 4, "c", "l"); ok || token != "" {
		t.Error("a launch under a key that is not listed")
	}
}

func TestPinRoundTrip(t *testing.T) {
	pin := mustRing(t, fixed(1)).Pin()
	got, err := ParsePin(pin.String())
	if err != nil || got != pin {
		t.Fatalf("ParsePin = %v, %v", got, err)
	}
	for _, bad := range []string{"", pin.String()[:63], strings.Repeat("g", 64)} {
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("ParsePin(%q) took it", bad)
		}
	}
	label, _, _ := strings.Cut(pin.ServerName(), ".")
	if len(label) > 63 || strings.Contains(pin.String(), label) {
		t.Fatalf("label %q is too long or part of the pin", label)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fixed(1).Hex()))
	f.Add([]byte("# two\n" + many(2)))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := Parse(text)
		if err == nil && (len(keys) == 0 || len(keys) > maxListed) {
			t.Fatalf("%d keys without an error", len(keys))
		}
	})
}
