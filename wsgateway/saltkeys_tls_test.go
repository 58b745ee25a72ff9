package wsgateway

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// saltNode is a gateway on loopback whose machines prove themselves by their Salt keys.
func saltNode(t *testing.T, r *record) (*tlsNode, *master) {
	t.Helper()
	m := newMaster(t)
	return serveTLS(t, r, func(c *Config) { c.Identity = NewSaltKeys(m.read, 0) }), m
}

func (n *tlsNode) connect(t *testing.T) *tlsClient {
	t.Helper()
	c, err := dialTLS(t, n.addr, keys.PinnedClientTLS(n.ring.Pin()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// helloBy says hello as a machine on this connection, with a proof of that by key.
func (n *tlsNode) helloBy(t *testing.T, c *tlsClient, machine string, key *rsa.PrivateKey) *wire.Message {
	t.Helper()
	m := helloOf(testLaunch, machine, "a")
	m.Token = n.ring.StartToken(1, clusterID, m.Launch)
	m.Proof = proofOf(t, key, wire.Transcript(clusterID, m.Launch, machine, m.Nonce, c.challenge.Challenge, c.exporter))
	return m
}

// What somebody has who reads Salt's bus (the token), the wire (a hello) or another minion's disk (its key) starts nothing.
func TestStolenHellosStartNothing(t *testing.T) {
	r := oneTarget(t)
	n, m := saltNode(t, r)
	mine, others := minionKeys()[0], minionKeys()[1]
	recorded := n.connect(t)
	good := n.helloBy(t, recorded, "web-1", mine)
	refused := func(what string, change func(c *tlsClient) *wire.Message) {
		t.Helper()
		c := n.connect(t)
		hello := change(c)
		c.send(hello)
		if answer := c.want(wire.TypeRefused); !answer.Final {
			t.Errorf("%s: %+v", what, answer)
		}
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
		c.wantClosed(websocket.StatusPolicyViolation)
	}
	refused("recorded on another connection", func(*tlsClient) *wire.Message { return good })
	refused("relayed: this connection's challenge, signed on another one", func(c *tlsClient) *wire.Message {
		other := n.connect(t)
		other.challenge = c.challenge
		return n.helloBy(t, other, "web-1", mine)
	})
	refused("another minion with its own key", func(c *tlsClient) *wire.Message { return n.helloBy(t, c, "web-1", others) })
	refused("its own proof under another minion's name", func(c *tlsClient) *wire.Message {
		m := n.helloBy(t, c, "web-2", others)
		m.Machine = "web-1"
		return m
	})
	refused("the token alone", func(c *tlsClient) *wire.Message {
		m := n.helloBy(t, c, "web-1", mine)
		m.Proof = nil
		return m
	})
	refused("the token of another launch", func(c *tlsClient) *wire.Message {
		m := n.helloBy(t, c, "web-1", mine)
		m.Token = n.ring.StartToken(1, clusterID, (testLaunch + 1).String())
		return m
	})
	refused("another launch than was signed", func(c *tlsClient) *wire.Message {
		m := n.helloBy(t, c, "web-1", mine)
		m.Launch = (testLaunch + 1).String()
		m.Token = n.ring.StartToken(1, clusterID, m.Launch)
		return m
	})
	refused("another nonce than was signed", func(c *tlsClient) *wire.Message {
		m := n.helloBy(t, c, "web-1", mine)
		m.Nonce[3] ^= 1
		return m
	})
	if r.count("hello")+r.count("start") != 0 {
		t.Fatal("the leader was asked for one that proved nothing")
	}
	m.accept("web-3", []byte("not a key"))
	c := n.connect(t)
	c.send(n.helloBy(t, c, "web-3", mine))
	if answer := c.want(wire.TypeRefused); answer.Final {
		t.Errorf("a key that can't be had: %+v", answer)
	}
	recorded.send(good)
	recorded.want(wire.TypeRuns)
}

// The program itself, with a key file as Salt writes it, through TLS to a result; with another minion's key it never starts.
func TestWrapperProvesItselfBySaltKey(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sp_wrapper")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/sp_wrapper").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := oneTarget(t)
	n, m := saltNode(t, r)
	launch := func(key *rsa.PrivateKey, state string) {
		t.Helper()
		path := filepath.Join(dir, state+".pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		if err := os.WriteFile(path, text, 0o400); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "launch", "--id", testLaunch.String(), "--machine", "web-1", "--cluster", clusterID,
			"--urls", "wss://"+n.addr, "--token", n.ring.StartToken(1, clusterID, testLaunch.String()), "--pin", n.ring.Pin().String(),
			"--identity", "salt-key", "--key", path, "--state", filepath.Join(dir, state)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	m.accept("web-1", publicPEM(t, minionKeys()[1].Public()))
	launch(minionKeys()[0], "thief")
	turned := func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.reads > 0 }
	awaitTrue(t, "the proof to be looked at", turned)
	awaitTrue(t, "the refused wrapper's end", func() bool { return n.g.Sessions() == (Stats{}) })
	if r.count("hello") != 0 {
		t.Fatal("another key than the accepted one was taken")
	}
	m.accept("web-1", publicPEM(t, minionKeys()[0].Public())) // accepted meanwhile
	launch(minionKeys()[0], "minion")
	awaitTrue(t, "the result", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.targets[testRef].done
	})
	if got := r.targets[testRef].result; got.Kind != saltpeter.WordResult || got.Code != 0 {
		t.Errorf("result %+v", got)
	}
	awaitTrue(t, "the wrapper's end", func() bool { return n.g.Sessions() == (Stats{}) })
}

func awaitTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
