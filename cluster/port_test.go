package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/internal/keys"
)

// isRefused says whether the other side closes the connection without a word.
func isRefused(t *testing.T, conn net.Conn) bool {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return err != nil
}

func TestPortTakesMembersOnly(t *testing.T) {
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	// Each speaks to node a from the host x.
	good := preface{kind: speakLink, cluster: "test", from: "b", to: "a"}
	tests := map[string]struct {
		cert  string // id in the certificate
		say   func(preface) preface
		taken bool
	}{
		"a member":                  {"b", func(p preface) preface { return p }, true},
		"a member that knows no id": {"b", func(p preface) preface { p.to = ""; return p }, true},
		"no member":                 {"x", func(p preface) preface { p.from = "x"; return p }, false},
		"no member, for Raft":       {"x", func(p preface) preface { p.from, p.kind = "x", speakRaft; return p }, false},
		"another's id":              {"c", func(p preface) preface { return p }, false},
		"another cluster":           {"b", func(p preface) preface { p.cluster = "other"; return p }, false},
		"another node meant":        {"b", func(p preface) preface { p.to = "c"; return p }, false},
		"another protocol":          {"b", func(p preface) preface { p.kind = 'G'; return p }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, "a", "b", "c")
				r.ring = ring
				r.startAll()
				defer r.stopAll()
				r.leader()
				mine, err := ring.NodeTLS(tt.cert)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := r.net.Host("x").Dial(t.Context(), "a:8890")
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				conn := tls.Client(raw, mine.Client("a"))
				if _, err := conn.Write(tt.say(good).encode()); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write((&frame{typ: framePing}).append(nil)); err != nil && tt.taken {
					t.Fatal(err)
				}
				if refused := isRefused(t, conn); refused == tt.taken {
					t.Fatalf("refused = %v, want taken = %v", refused, tt.taken)
				}
			})
		})
	}
}

func TestPortRefusesOtherKeysAndPlainText(t *testing.T) {
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	other, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, "a", "b", "c")
		r.ring = ring
		r.startAll()
		defer r.stopAll()
		r.leader()
		hello := preface{kind: speakRaft, cluster: "test", from: "b", to: "a"}.encode()
		foreign, err := other.NodeTLS("b")
		if err != nil {
			t.Fatal(err)
		}
		dial := func() net.Conn {
			raw, err := r.net.Host("x").Dial(t.Context(), "a:8890")
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		plain := dial()
		defer plain.Close()
		plain.Write(hello)
		if got, _ := io.ReadAll(plain); bytes.ContainsAny(got, "RF") {
			t.Errorf("plain text was answered with %q", got)
		}
		raw := dial()
		defer raw.Close()
		cfg := foreign.Client("")
		cfg.VerifyConnection = nil // takes any node; the node must not take it
		conn := tls.Client(raw, cfg)
		conn.Write(hello)
		if !isRefused(t, conn) {
			t.Error("a certificate of another key was taken")
		}
	})
}

// Whoever says nothing holds a place only for the time of a handshake, and not all places.
func TestSilentConnectionsAreDroppedAndBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, _ := alone(t)
		defer r.stopAll()
		var conns []net.Conn
		for range maxHandshakes + 10 {
			conn, err := r.net.Host("x").Dial(t.Context(), "a:8890")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conns = append(conns, conn)
			synctest.Wait()
		}
		begun := time.Now()
		early, late := 0, 0
		for _, conn := range conns {
			if !isRefused(t, conn) {
				t.Fatal("a silent connection is still open after a minute")
			}
			if time.Since(begun) == 0 {
				early++
			} else {
				late++
			}
		}
		// The first that is read is one that waits; those over the limit were refused at once.
		if d := time.Since(begun); d != 5*time.Second {
			t.Errorf("dropped after %v, want 5s", d)
		}
		if early+late != maxHandshakes+10 {
			t.Errorf("%d + %d", early, late)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "a", "b", "c")
		r.prepare = func(_ string, cfg *Config) { cfg.Timings.MaxConnections = 8 }
		r.startAll()
		defer r.stopAll()
		leader := r.leader()
		id := r.follower(leader)
		for i := range 20 {
			conn, err := r.net.Host("x").Dial(t.Context(), id+":8890")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write(preface{kind: speakLink, cluster: "test", from: leader}.encode())
			synctest.Wait()
			r.nodes[id].port.mu.Lock()
			open := len(r.nodes[id].port.conns)
			r.nodes[id].port.mu.Unlock()
			if open > 8+poolPerPeer*2+2 { // and those that it dialed itself
				t.Fatalf("after %d: %d connections", i, open)
			}
		}
	})
}

func TestPrefaceSurvivesAnything(t *testing.T) {
	for _, h := range []preface{{kind: 'R'}, {kind: 'F', cluster: "c", from: "f", to: "t"}} {
		got, err := readPreface(bytes.NewReader(h.encode()))
		if err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
	if _, err := readPreface(bytes.NewReader([]byte{'R', prefaceVersion + 1, 0, 0, 0})); !errors.Is(err, errRefused) {
		t.Errorf("unknown version: %v", err)
	}
}

// A node that sends more than its window is cut off, before it costs memory.
func TestPeerThatKeepsNoWindowIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- serveLink(t.Context(), far, time.Minute, func(ctx context.Context, _ *frame) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			far.Close()
		}()
		go io.Copy(io.Discard, near)
		sent := 0
		for ; sent < window[Low]+10; sent++ {
			if _, err := near.Write((&frame{typ: frameRequest, prio: Low, id: uint64(sent)}).append(nil)); err != nil {
				break
			}
		}
		near.Close()
		if err := <-ended; !errors.Is(err, errFrame) {
			t.Fatalf("session ended with %v, want errFrame", err)
		}
		if sent > window[Low]+1 {
			t.Fatalf("%d requests were read", sent)
		}
	})
}
