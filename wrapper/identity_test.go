package wrapper

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

// saltKey is a minion's key, made once: that takes a while.
var saltKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // of a test binary
	}
	return key
})

func writePEM(t testing.TB, block *pem.Block) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "minion.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o400); err != nil {
		t.Fatal(err)
	}
	return path
}

func pkcs8(t testing.TB, key any) *pem.Block {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
}

func TestProofByFileKey(t *testing.T) {
	path, public := writeKey(t, t.TempDir())
	prove, err := loadIdentity(identityFile, path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := prove([]byte("transcript"))
	if err != nil || p.Kind != wire.ProofFileKey || !ed25519.Verify(public, []byte("transcript"), p.Signature) || !public.Equal(ed25519.PublicKey(p.Key)) {
		t.Errorf("proof %+v, %v", p, err)
	}
	if prove, err := loadIdentity(identityToken, ""); prove != nil || err != nil {
		t.Errorf("a proof without a key, %v", err)
	}
}

func TestProofBySaltKey(t *testing.T) {
	key := saltKey()
	for name, block := range map[string]*pem.Block{
		"PKCS 1": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		"PKCS 8": pkcs8(t, key),
	} {
		prove, err := loadIdentity(identitySalt, writePEM(t, block))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p, err := prove([]byte("transcript"))
		if err != nil || p.Kind != wire.ProofSaltKey || !wire.VerifyBySalt(&key.PublicKey, []byte("transcript"), p.Signature) {
			t.Errorf("%s: proof %+v, %v", name, p, err)
		}
		if wire.VerifyBySalt(&key.PublicKey, []byte("transcripT"), p.Signature) {
			t.Errorf("%s: the proof is for another transcript too", name)
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // a Go that makes none
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edward, _ := ed25519.GenerateKey(nil)
	rsaPEM := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(saltKey())}
	torn := &pem.Block{Type: rsaPEM.Type, Bytes: rsaPEM.Bytes[:len(rsaPEM.Bytes)-9]}
	locked := &pem.Block{Type: rsaPEM.Type, Bytes: []byte("x"), Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}}
	huge := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(huge, bytes.Repeat([]byte("x"), maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ kind, path, want string }{
		"small":        {identitySalt, writePEM(t, pkcs8(t, small)), "1024 bits"},
		"a curve":      {identitySalt, writePEM(t, pkcs8(t, curve)), "allowed: RSA"},
		"Ed25519":      {identitySalt, writePEM(t, pkcs8(t, edward)), "allowed: RSA"},
		"RSA as file":  {identityFile, writePEM(t, pkcs8(t, saltKey())), "allowed: Ed25519"},
		"public":       {identitySalt, writePEM(t, &pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), `holds a "PUBLIC KEY"`},
		"torn":         {identitySalt, writePEM(t, torn), "minion.pem: "},
		"encrypted":    {identitySalt, writePEM(t, locked), "passphrase"},
		"no PEM":       {identitySalt, "/etc/passwd", "no PEM block"},
		"too large":    {identitySalt, huge, "no file of at most"},
		"a directory":  {identitySalt, t.TempDir(), "no file of at most"},
		"endless":      {identitySalt, "/dev/zero", "no file of at most"},
		"absent":       {identitySalt, "/no/such/minion.pem", "/no/such/minion.pem can't be read by user "},
		"none":         {identitySalt, "", "needs the path"},
		"unknown kind": {"magic", "", "allowed: salt-key, ed25519-file, token"},
	} {
		if _, err := loadIdentity(c.kind, c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A key that is root's: the error says whose it isn't.
func TestUnreadableKeyNamesUserAndPath(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	dir, err := os.MkdirTemp("", "key") // t.TempDir's parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "sp_wrapper")
	program, err := os.ReadFile(binary(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "minion.pem")
	if err := errors.Join(os.WriteFile(bin, program, 0o755), os.WriteFile(key, []byte("root's"), 0o400), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "launch", "--id", "20261123000000000000", "--machine", "m", "--cluster", "c", "--urls", "wss://a", "--token", "t",
		"--pin", strings.Repeat("ab", 32), "--identity", "salt-key", "--key", key)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if want := "--key: " + key + " can't be read by user "; err == nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "uid 65534): permission denied") {
		t.Errorf("%v: %s", err, out)
	}
}

// A node that can't check who this is sends the wrapper to others, and is asked again only when there is none.
func TestWrapperGoesWhereItsIdentityCanBeChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, says("x", time.Second, 0))
		w.node("a").sendAway, w.node("b").sendAway = true, true
		w.start(t)
		w.wait(t, time.Minute)
		if r := w.first(); r.final == nil || r.final.Code != 0 {
			t.Errorf("final %+v", r.final)
		}
		if a, b := w.node("a").hellos, w.node("b").hellos; a > 1 || b > 1 {
			t.Errorf("asked again at those that had sent it away: %d and %d hellos", a, b)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, says("x", time.Second, 0))
		w.node("a").sendAway, w.node("b").sendAway = true, true
		began := time.Now()
		w.start(t)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		w.rec.mu.Lock()
		if a, b := w.node("a").hellos, w.node("b").hellos; a < 2 || b < 2 || a+b > 30 {
			t.Errorf("%d and %d hellos in 20 s", a, b)
		}
		w.node("b").sendAway = false
		w.rec.mu.Unlock()
		w.wait(t, time.Minute)
		if r := w.first(); r.final == nil || r.final.Code != 0 || time.Since(began) > 40*time.Second {
			t.Errorf("final %+v after %v", r.final, time.Since(began))
		}
	})
}
