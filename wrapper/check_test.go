package wrapper

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// askCheck runs the program's check in this process.
func askCheck(t *testing.T, args ...string) (code int, got wire.Checkup, errs string) {
	t.Helper()
	var out, e bytes.Buffer
	code = Main(append([]string{"sp_wrapper", "check", "--json"}, args...), "1.2.3", Streams{Out: &out, Err: &e})
	if err := json.Unmarshal(out.Bytes(), &got); err != nil && out.Len() > 0 {
		t.Fatalf("%v: %s", err, out.String())
	}
	return code, got, e.String()
}

// closedPort gives the URL of a port on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "wss://" + ln.Addr().String()
}

func TestCheckGateways(t *testing.T) {
	g := newGateway(t, newRecord(spec1()))
	pin, other := g.ring.Pin().String(), strings.Repeat("ab", 32)
	dead := closedPort(t)
	tests := map[string]struct {
		urls, pin, cluster string
		code               int
		want               []string
	}{
		"well":              {g.url, pin, testCluster, 0, []string{wire.DialOK}},
		"any cluster":       {g.url, pin, "", 0, []string{wire.DialOK}},
		"one of two is off": {dead + "," + g.url, pin, testCluster, 0, []string{wire.DialRefused, wire.DialOK}},
		"nothing listens":   {dead, pin, testCluster, 1, []string{wire.DialRefused}},
		"other pin":         {g.url, other, testCluster, 1, []string{wire.DialPin}},
		"other cluster":     {g.url, pin, "someone else", 1, []string{wire.DialCluster}},
		"other path":        {g.url + "/nothing", pin, testCluster, 1, []string{wire.DialFailed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, got, errs := askCheck(t, "--urls", tt.urls, "--pin", tt.pin, "--cluster", tt.cluster)
			if code != tt.code || len(got.Gateways) != len(tt.want) || got.Version != "1.2.3" || got.Protocol != wire.Version || got.Key != nil || got.State != nil {
				t.Fatalf("code %d: %+v, %s", code, got, errs)
			}
			for i, want := range tt.want {
				if r := got.Gateways[i]; r.Result != want || (r.Detail == "") != (want == wire.DialOK) || strings.Contains(r.Detail, "https://") {
					t.Errorf("%+v, want %s", r, want)
				}
			}
			if off := time.Since(time.UnixMilli(got.Millis)).Abs(); off > time.Minute {
				t.Errorf("its clock is %s off ours", off)
			}
		})
	}
}

// A node that accepts and stays silent, as a stopped one does, is no gateway.
func TestCheckSilentGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := dialAll(t.Context(), fakeNet{"wss://a": {rec: newRecord(spec1()), silent: true}}, []string{"wss://a"}, testCluster)
		if got[0].Result != wire.DialTimeout || got[0].Millis != checkDial.Milliseconds() {
			t.Errorf("%+v", got[0])
		}
	})
}

func TestCheckUnknownHost(t *testing.T) {
	err := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nosuch.example", IsNotFound: true}}
	if got := dialResult(err); got != wire.DialHost {
		t.Error(got)
	}
}

func TestCheckMachine(t *testing.T) {
	g := newGateway(t, newRecord(spec1()))
	reach := []string{"--urls", g.url, "--pin", g.ring.Pin().String()}
	der, err := x509.MarshalPKIXPublicKey(&saltKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := sha256.Sum256(der)
	path := writePEM(t, pkcs8(t, saltKey()))
	state := filepath.Join(t.TempDir(), "new", "state")
	code, got, errs := askCheck(t, append(reach, "--key", path, "--state", state)...)
	if code != 0 || got.Key.Error != "" || !bytes.Equal(got.Key.Public, public[:]) || got.State.Error != "" || got.State.Path != state {
		t.Errorf("well: code %d, %+v, %+v, %s", code, got.Key, got.State, errs)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	code, got, errs = askCheck(t, append(reach, "--key", path+".not", "--state", filepath.Join(path, "x"))...)
	if code != 1 || !strings.Contains(got.Key.Error, "can't be read by user") || got.State.Error == "" || !strings.Contains(errs, errCheckFailed.Error()) {
		t.Errorf("neither: code %d, %+v, %+v, %s", code, got.Key, got.State, errs)
	}
	garbage := filepath.Join(t.TempDir(), "k.pem")
	if err := os.WriteFile(garbage, []byte("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, got, _ = askCheck(t, append(reach, "--key", garbage)...); code != 1 || !strings.Contains(got.Key.Error, "allowed: RSA PRIVATE KEY") {
		t.Errorf("another kind of key: code %d, %+v", code, got.Key)
	}
}

func TestCheckArguments(t *testing.T) {
	pin := keys.Pin{}.String()
	tests := map[string]struct {
		args []string
		want string
	}{
		"no gateway":   {[]string{"--pin", pin}, "--urls: missing"},
		"not wss":      {[]string{"--pin", pin, "--urls", "https://a"}, "is not wss://host:port"},
		"no pin":       {[]string{"--urls", "wss://a:1"}, "pin"},
		"unknown flag": {[]string{"--token", "x"}, "-token"},
		"too much":     {[]string{"--urls", "wss://a:1", "--pin", pin, "x"}, `unexpected "x"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if code, _, errs := askCheck(t, tt.args...); code != 1 || !strings.Contains(errs, tt.want) {
				t.Errorf("code %d, %q does not say %q", code, errs, tt.want)
			}
		})
	}
}

func TestCheckForPeople(t *testing.T) {
	var out bytes.Buffer
	err := tellCheck(&wire.Checkup{
		Version: "1.2.3", Key: &wire.KeyCheck{Path: "/k"}, State: &wire.StateCheck{Path: "/s", Error: "no space"},
		Gateways: []wire.DialCheck{{URL: "wss://a", Result: wire.DialOK, Millis: 12}, {URL: "wss://b", Result: wire.DialRefused, Detail: "connection refused", Millis: 1}},
	}, false, &out)
	want := "sp_wrapper  1.2.3  \nkey         /k  ok\nstate       /s  no space\ngateway     wss://a  ok after 12 ms\ngateway     wss://b  refused after 1 ms: connection refused\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}
