package salt

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/integration/rig"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// held is a launch whose minion sleeps: it is on the bus, and nobody has answered it.
type held struct {
	*world
	published
	run string
	ran string // a file to which the job's command adds a line
}

// hold publishes a launch of m1 and keeps its minion from it until release.
func hold(t *testing.T) *held {
	t.Helper()
	w := begin(t, []*rig.Job{{Name: rig.JobHand, Targets: "m1", Machines: 1}}, func(o *saltrig.Options) { o.Minions, o.IDs = 2, o.IDs[:2] })
	h := &held{world: w, ran: filepath.Join(w.c.Dir, "ran")}
	w.configure("coveted", map[string]map[string]any{
		"coveted": {"command": "echo $PPID >> " + h.ran, "targets": "m1", "target_type": "list", "cwd": "/", "user": "root"},
	})
	b := record(t, w.salt, w.salt.Masters[0])
	other := record(t, w.salt, w.salt.Masters[1])
	w.must(w.salt.Pause("mn01"))
	h.run = w.start("coveted")
	w.reaches(h.run, "m1", "launched")
	// Which of the masters published it is the leader's choice.
	if leads := w.leader(); leads == w.c.Nodes[1] {
		b = other
	}
	h.published = b.launch(w, h.run, "m1")
	return h
}

// release wakes the minion: its own wrapper runs the command, once, and the record has nothing of those who tried before.
func (h *held) release() {
	h.t.Helper()
	if m := h.machine(h.run, "m1"); m.State != "launched" || m.TwoHosts || m.Text != "" {
		h.t.Errorf("before the minion's wrapper: %+v", m)
	}
	if _, err := os.Stat(h.ran); err == nil {
		h.t.Error("the command ran for one that may not run it")
	}
	h.must(h.salt.Resume("mn01"))
	if m := h.reaches(h.run, "m1", "ok", "failed", "not-started", "unreachable", "lost"); m.State != "ok" || m.Text != "" || m.TwoHosts {
		h.t.Errorf("the minion's own wrapper: %+v", m)
	}
	if b, err := os.ReadFile(h.ran); err != nil || strings.Count(string(b), "\n") != 1 {
		h.t.Errorf("the command ran %q, %v", b, err)
	}
}

// What stands on the event bus, which every user of Salt may read, starts nothing: not on another minion, not under this one's name
// with another's key, not without one. The minion's own wrapper is not disturbed.
func TestTokenFromTheBus(t *testing.T) {
	h := hold(t)
	key := func(i int) string { return filepath.Join(h.salt.Minions[i].PKI, "minion.pem") }
	for _, thief := range []struct {
		name, machine string
		identity      []string
		why           string
	}{
		{"another minion, with its own key", "m2", []string{"salt-key", "--key", key(1)}, ""},
		{"this minion's name, another's key", "m1", []string{"salt-key", "--key", key(1)}, "identity refused"},
		{"no key", "m1", []string{"token"}, "identity refused"},
	} {
		h.steal(thief.name, thief.machine, thief.identity, thief.why)
	}
	h.release()
}

// steal starts the wrapper with what the bus told, and wants it to be refused.
func (h *held) steal(name, machine string, identity []string, why string) {
	h.t.Helper()
	state := filepath.Join(h.c.Dir, "thief-"+strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' || r == '\'' {
			return '-'
		}
		return r
	}, name))
	args := []string{"launch", "--state", state, "--machine", machine}
	for _, flag := range []string{"--id", "--cluster", "--urls", "--token", "--pin", "--window"} {
		args = append(args, flag, h.field(h.t, flag))
	}
	args = append(append(args, "--identity"), identity...)
	out, err := exec.CommandContext(h.ctx, h.c.Bin.Wrapper, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v: %s", name, err, out)
	}
	log := filepath.Join(state, "wrapper.log")
	h.must(rig.WaitFor(h.ctx, 10*time.Second, name+" to be refused", func() error {
		text, err := os.ReadFile(log)
		if err == nil && (!strings.Contains(string(text), "refused") || !strings.Contains(string(text), why)) {
			err = fmt.Errorf("its log is %q", text)
		}
		return err
	}))
	h.must(rig.WaitFor(h.ctx, 5*time.Second, name+" to end", func() error {
		if out, err := exec.CommandContext(h.ctx, "pgrep", "-f", state).Output(); err == nil {
			return fmt.Errorf("process %s", out)
		}
		return nil
	}))
	text, _ := os.ReadFile(log)
	h.t.Logf("%s: %s", name, text)
	if entries, err := os.ReadDir(filepath.Join(state, "journal")); err == nil && len(entries) > 0 {
		h.t.Errorf("%s: it has a journal", name)
	}
}

// A hello that was heard on the way, the minion's true proof in it, is refused on another connection to the same node and to
// another one, while it holds on its own.
func TestReplayedHello(t *testing.T) {
	h := hold(t)
	urls := strings.Split(h.field(t, "--urls"), ",")
	own := h.connect(urls[0])
	hello := h.hello(own)
	for _, url := range []string{urls[0], urls[len(urls)-1]} {
		c := h.connect(url)
		c.send(hello)
		if m := c.receive(); m.Type != wire.TypeRefused || !m.Final || m.Text != "identity refused" {
			t.Errorf("the replayed hello at %s: %+v", url, m)
		}
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
		if m, err := c.next(); err == nil {
			t.Errorf("a start after it at %s: %+v", url, m)
		}
	}
	own.send(hello)
	if m := own.receive(); m.Type != wire.TypeRuns || len(m.Runs) != 1 {
		t.Errorf("the hello on its own connection: %+v", m)
	}
	own.ws.CloseNow() //nolint:errcheck // it is open
	h.release()
}

// wrapperConn is a connection as a wrapper makes it.
type wrapperConn struct {
	w         *world
	ws        *websocket.Conn
	exporter  []byte
	challenge *wire.Message
}

func (h *held) connect(url string) *wrapperConn {
	h.t.Helper()
	pin, err := keys.ParsePin(h.field(h.t, "--pin"))
	h.must(err)
	c := &wrapperConn{w: h.world}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&tls.Dialer{Config: keys.PinnedClientTLS(pin)}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		state := conn.(*tls.Conn).ConnectionState()
		c.exporter, err = state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32)
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialTLSContext: dial}}
	c.ws, _, err = websocket.Dial(h.ctx, url+wire.Path, &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // the library's
	h.must(err)
	h.t.Cleanup(func() { c.ws.CloseNow() }) //nolint:errcheck // may be closed
	c.ws.SetReadLimit(wire.MaxToWrapper)
	c.challenge = c.receive()
	return c
}

// hello is what m1's own wrapper would say on a connection.
func (h *held) hello(c *wrapperConn) *wire.Message {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.salt.Minions[0].PKI, "minion.pem"))
	h.must(err)
	block, _ := pem.Decode(text)
	if block == nil {
		h.t.Fatal("the minion's key is no PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	h.must(err)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	h.must(err)
	nonce := sha256.Sum256([]byte("a secret"))
	m := &wire.Message{
		Type: wire.TypeHello, Version: wire.Version, Launch: h.ID, Machine: "m1", BootID: strings.TrimSpace(string(boot)),
		Token: h.field(h.t, "--token"), Nonce: nonce[:],
	}
	m.Proof = h.proof(key, wire.Transcript(h.field(h.t, "--cluster"), m.Launch, m.Machine, m.Nonce, c.challenge.Challenge, c.exporter))
	return m
}

func (h *held) proof(key *rsa.PrivateKey, transcript []byte) *wire.Proof {
	h.t.Helper()
	p, err := wire.ProveBySalt(key, transcript)
	h.must(err)
	return p
}

func (c *wrapperConn) send(m *wire.Message) {
	c.w.t.Helper()
	b, err := wire.Encode(m)
	c.w.must(errors.Join(err, c.ws.Write(c.w.ctx, websocket.MessageText, b)))
}

func (c *wrapperConn) receive() *wire.Message {
	c.w.t.Helper()
	m, err := c.next()
	c.w.must(err)
	return m
}

// next gives the next message, an error where the node closed the connection.
func (c *wrapperConn) next() (*wire.Message, error) {
	ctx, cancel := context.WithTimeout(c.w.ctx, 10*time.Second)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	return wire.Decode(b)
}
