package gossip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

var (
	keyA = bytes.Repeat([]byte{1}, 32)
	keyB = bytes.Repeat([]byte{2}, 32)
)

// town is some nodes on addresses of the loopback that know each other as members.
type town struct {
	t       *testing.T
	mu      sync.Mutex // guards members
	members map[string]string
	net     string
	port    int
}

func newTown(t *testing.T, names ...string) *town {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w := &town{t: t, members: map[string]string{}, net: fmt.Sprintf("127.%d.%d", 100+os.Getpid()%150, 1+os.Getpid()/150%250), port: ln.Addr().(*net.TCPAddr).Port}
	for i, name := range names {
		w.members[name] = w.host(i + 1)
	}
	return w
}

func (w *town) host(i int) string { return fmt.Sprintf("%s.%d", w.net, i) }

func (w *town) list() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.members)
}

// join starts a node at a host; stop ends it with or without a goodbye.
func (w *town) join(id, host string, edit func(*Config)) (g *Gossip, stop func(goodbye bool)) {
	w.t.Helper()
	cfg := Config{ID: id, Cluster: "c-1", Keys: [][]byte{keyA}, Listen: fmt.Sprintf("%s:%d", host, w.port), Advertise: host + ":8890",
		About:   func() About { return About{Name: "name of " + id, Node: host + ":8890", Version: "1.0", Files: "f"} },
		Members: w.list, Wall: time.Now}
	if edit != nil {
		edit(&cfg)
	}
	g, err := Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	var once sync.Once
	stop = func(goodbye bool) {
		once.Do(func() {
			if !goodbye {
				if err := g.Close(); err != nil {
					w.t.Error(err)
				}
			}
			cancel()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
			if err := g.Close(); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(func() { stop(true) })
	return g, stop
}

// until waits up to 20 s for g to see a peer as wanted; nil means not at all.
func (w *town) until(what string, g *Gossip, id string, ok func(*Peer) bool) {
	w.t.Helper()
	var last []Peer
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		last = g.Peers()
		var p *Peer
		for i := range last {
			if last[i].ID == id {
				p = &last[i]
			}
		}
		if ok(p) {
			return
		}
	}
	w.t.Fatalf("%s: not in 20 s, seen: %+v", what, last)
}

func alive(p *Peer) bool { return p != nil && p.State == Alive }
func gone(p *Peer) bool  { return p != nil && p.State == Gone }

func TestNodesSeeEachOther(t *testing.T) {
	w := newTown(t, "a", "b", "c")
	a, _ := w.join("a", w.host(1), nil)
	b, stopB := w.join("b", w.host(2), func(c *Config) { c.Wall = func() time.Time { return time.Now().Add(7 * time.Second) } })
	_, stopC := w.join("c", w.host(3), nil)
	w.until("b is seen with what it says, and its clock", a, "b", func(p *Peer) bool {
		return alive(p) && p.About == About{Name: "name of b", Node: w.host(2) + ":8890", Version: "1.0", Files: "f"} &&
			p.Gossip == fmt.Sprintf("%s:%d", w.host(2), w.port) && p.AheadKnown && p.Ahead > 6*time.Second && p.Ahead < 8*time.Second
	})
	w.until("c", b, "c", alive)
	stopC(true)
	w.until("c said goodbye", a, "c", gone)
	stopB(false)
	w.until("b does not answer", a, "b", gone)
	w.join("b", w.host(4), nil)
	w.until("b is back under another address", a, "b", func(p *Peer) bool { return alive(p) && p.About.Node == w.host(4)+":8890" })
}

func TestNewsAreTold(t *testing.T) {
	w := newTown(t, "a", "b")
	var mu sync.Mutex // guards files
	files := "old"
	a, _ := w.join("a", w.host(1), nil)
	w.join("b", w.host(2), func(c *Config) {
		c.About = func() About { mu.Lock(); defer mu.Unlock(); return About{Files: files} }
	})
	w.until("b", a, "b", func(p *Peer) bool { return alive(p) && p.About.Files == "old" })
	mu.Lock()
	files = "new"
	mu.Unlock()
	w.until("b's news", a, "b", func(p *Peer) bool { return alive(p) && p.About.Files == "new" })
}

// Who lacks the key or names another cluster is not heard; with two keys both are accepted.
func TestStrangersAreNotHeard(t *testing.T) {
	w := newTown(t, "a", "b", "other key", "other cluster")
	w.members["other key"], w.members["other cluster"] = w.host(3), w.host(4)
	a, _ := w.join("a", w.host(1), func(c *Config) { c.Keys = [][]byte{keyA, keyB} })
	one, _ := w.join("other key", w.host(3), func(c *Config) { c.Keys = [][]byte{bytes.Repeat([]byte{9}, 32)} })
	two, _ := w.join("other cluster", w.host(4), func(c *Config) { c.Cluster = "c-2" })
	b, _ := w.join("b", w.host(2), func(c *Config) { c.Keys = [][]byte{keyB, keyA} })
	w.until("b, which has turned to the next key", a, "b", alive)
	w.until("a, which has not", b, "a", alive)
	time.Sleep(3 * time.Second) // several tries to meet
	for _, id := range []string{"other key", "other cluster"} {
		for _, p := range append(a.Peers(), b.Peers()...) {
			if p.ID == id {
				t.Errorf("%s is heard: %+v", id, p)
			}
		}
	}
	if seen := append(one.Peers(), two.Peers()...); len(seen) != 0 {
		t.Errorf("strangers hear %+v", seen)
	}
}

// A node that has the key can't fill another's memory with nodes that don't exist, and is forgotten once it is no member.
func TestOnlyMembersAreKept(t *testing.T) {
	w := newTown(t, "a", "b")
	a, _ := w.join("a", w.host(1), nil)
	b, _ := w.join("b", w.host(2), nil)
	w.until("b", a, "b", alive)
	liar := map[string]string{"a": w.host(1), "b": w.host(2), "x": w.host(3)}
	x, _ := w.join("x", w.host(3), func(c *Config) { c.Members = func() map[string]string { return liar } })
	w.until("a hears nobody else", x, "b", alive) // x has met a and b
	for range 100 {
		for _, p := range append(a.Peers(), b.Peers()...) {
			if p.ID == "x" {
				t.Fatalf("x is no member: %+v", p)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.mu.Lock()
	delete(w.members, "b")
	w.mu.Unlock()
	w.until("b is forgotten", a, "b", func(p *Peer) bool { return p == nil })
}

// Strangers get so many connections and may send so much.
func TestStrangersAreBounded(t *testing.T) {
	w := newTown(t, "a")
	w.join("a", w.host(1), nil)
	var conns []net.Conn
	for range 3 * maxStreams {
		conn, err := net.Dial("tcp", net.JoinHostPort(w.host(1), strconv.Itoa(w.port)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	closed := 0
	for _, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(streamLimit / 20)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil && !os.IsTimeout(err) {
			closed++
		}
	}
	if closed < maxStreams {
		t.Errorf("%d of %d silent connections were closed", closed, len(conns))
	}
	s := &stream{Conn: endless{}, left: maxStream, closed: func() {}}
	if n, err := io.Copy(io.Discard, s); n != maxStream || err == nil {
		t.Errorf("%d bytes were read, %v", n, err)
	}
}

// endless is a connection that sends for ever.
type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAboutFits(t *testing.T) {
	long := strings.Repeat("x", 1000)
	a := About{long, long, long, long}
	b := a.encode()
	if len(b) > memberlist.MetaMaxSize {
		t.Fatalf("%d bytes", len(b))
	}
	if got := decodeAbout(b); got != a.cut() {
		t.Errorf("%+v", got)
	}
}

func FuzzAbout(f *testing.F) {
	f.Add(About{"n", "a:1", "1.0", "d"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a := decodeAbout(b)
		if got := decodeAbout(a.encode()); got != a {
			t.Errorf("%+v became %+v", a, got)
		}
	})
}
