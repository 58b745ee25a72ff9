package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

// A session lives as long as its entry: the same way is given again and again, in the order of the settings.
func TestEndpointsKeepTheirWays(t *testing.T) {
	var e endpoints
	one, two := saltpeter.SaltAPI{URL: "http://a", User: "x"}, saltpeter.SaltAPI{URL: "http://b"}
	first := e.masters([]saltpeter.SaltAPI{one, two})
	again := e.masters([]saltpeter.SaltAPI{two, one})
	if first[0] != again[1] || first[1] != again[0] || first[0].Name() != "http://a" {
		t.Error("not the same ways")
	}
	one.User = "y"
	if changed := e.masters([]saltpeter.SaltAPI{one}); changed[0] == first[0] || len(e.open) != 1 {
		t.Error("a changed entry has the old session")
	}
}

func TestEndpointPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if _, err := endpointPassword(saltpeter.SaltAPI{PasswordFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
	for text, want := range map[string]string{" a b \n": " a b ", "x\r\n": "x", "\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := endpointPassword(saltpeter.SaltAPI{PasswordFile: file}); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	t.Setenv("ENDPOINT_PASSWORD", "z")
	if got, err := endpointPassword(saltpeter.SaltAPI{PasswordEnv: "ENDPOINT_PASSWORD"}); got != "z" || err != nil {
		t.Error(got, err)
	}
	if _, err := endpointPassword(saltpeter.SaltAPI{PasswordEnv: "NO_SUCH_PASSWORD"}); err == nil {
		t.Error("no error")
	}
}
