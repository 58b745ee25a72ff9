package wsgateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// The clients of these measurements live in a process of their own: this test binary, started again with clientsEnv set to
// "address pin sessions KiB mode".
const clientsEnv = "WSGATEWAY_TEST_CLIENTS"

// TestClientsProcess is not a test but that other process. It dials, says "ready" when all sessions stand, and hangs up when
// its standard input ends.
func TestClientsProcess(t *testing.T) {
	spec := os.Getenv(clientsEnv)
	if spec == "" {
		t.Skip("started by the measurements")
	}
	f := strings.Fields(spec)
	pin, err := keys.ParsePin(f[1])
	if err != nil {
		t.Fatal(err)
	}
	sessions, _ := strconv.Atoi(f[2])
	kib, _ := strconv.Atoi(f[3])
	conf := keys.PinnedClientTLS(pin)
	var under sync.WaitGroup
	slots := make(chan struct{}, 64)
	for range sessions {
		slots <- struct{}{}
		under.Go(func() {
			defer func() { <-slots }()
			if err := oneSession(t, f[0], conf, kib, f[4] == "bare"); err != nil {
				t.Error(err)
			}
		})
	}
	under.Wait()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func oneSession(t *testing.T, addr string, conf *tls.Config, kib int, bare bool) error {
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}}
	ws, err := dialWS(context.Background(), "wss://"+addr, hc)
	if err != nil {
		return err
	}
	c := &client{t: t, ws: ws}
	if !bare {
		c.win()
	}
	data := make([]byte, 16<<10)
	for sent := 0; sent < kib; sent += 16 {
		f := wire.Frame{Kind: wire.FrameOutput, Seq: uint64(sent/16 + 1), Data: data}
		if err := ws.Write(context.Background(), websocket.MessageBinary, wire.AppendFrame(nil, &f)); err != nil {
			return err
		}
		if bare {
			if _, _, err := ws.Read(context.Background()); err != nil {
				return err
			}
		} else if m, err := c.readOne(); err != nil || m.Type != wire.TypeAck {
			return fmt.Errorf("want an ack, got %+v: %w", m, err)
		}
	}
	return nil
}

// clientsProcess starts the other process; wait returns when all its sessions stand, stop ends it.
func clientsProcess(t testing.TB, addr string, pin keys.Pin, sessions, kib int, mode string) (wait, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestClientsProcess$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d %s", clientsEnv, addr, pin, sessions, kib, mode))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait = func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "ready\n" {
			t.Fatalf("clients: %q, %v", line, err)
		}
	}
	return wait, func() { _ = in.Close(); _, _ = io.Copy(io.Discard, out); _ = cmd.Wait() }
}

// bareTLS serves the bare echo under the same certificates.
func bareTLS(t testing.TB) (addr string, pin keys.Pin, stop func()) {
	t.Helper()
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	conf, err := ring.WrapperTLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(bareEcho), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { _ = srv.Serve(tls.NewListener(ln, conf)); close(done) }()
	return ln.Addr().String(), ring.Pin(), func() { _ = srv.Close(); <-done }
}

func gatewayTLS(t testing.TB) (addr string, pin keys.Pin) {
	t.Helper()
	n := serveTLS(t, newInstant(0), func(c *Config) {
		c.Tokens, c.Identity = tokens{}, AnyMachine{}
		c.Limits = Limits{PerMachine: 1 << 20}
	})
	return n.addr, n.ring.Pin()
}

// inUse is what the heap and the stacks hold after a collection.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // the first one empties the pools into their victims
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// memoryPerSession gives bytes of heap and stack for each of n sessions that sent so many KiB and are idle.
func memoryPerSession(t testing.TB, n, kib int, mode string) float64 {
	t.Helper()
	var addr string
	var pin keys.Pin
	if mode == "bare" {
		var stop func()
		addr, pin, stop = bareTLS(t)
		defer stop()
	} else {
		addr, pin = gatewayTLS(t)
	}
	before := inUse()
	wait, stop := clientsProcess(t, addr, pin, n, kib, mode)
	wait()
	after := inUse()
	stop()
	return float64(after-before) / float64(n)
}

// The budget: an idle session that won its claim costs at most 1.5 times what the bare library costs under TLS.
func TestSessionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const n = 300
	for _, kib := range []int{0, 64} {
		bare, ours := memoryPerSession(t, n, kib, "bare"), memoryPerSession(t, n, kib, "gateway")
		t.Logf("%d KiB sent: %.1f KiB a session, bare %.1f KiB", kib, ours/1024, bare/1024)
		if ours > 1.5*bare {
			t.Errorf("%d KiB sent: %.1f KiB a session, more than 1.5 times the bare library's %.1f", kib, ours/1024, bare/1024)
		}
	}
}

// BenchmarkSessionMemory is the same for 2,000 sessions, as figures.
func BenchmarkSessionMemory(b *testing.B) {
	for _, kib := range []int{0, 64} {
		for _, mode := range []string{"gateway", "bare"} {
			b.Run(fmt.Sprintf("%s/%dKiB", mode, kib), func(b *testing.B) {
				var sum float64
				for range b.N {
					sum += memoryPerSession(b, 2000, kib, mode)
				}
				b.ReportMetric(sum/float64(b.N)/1024, "KiB/session")
			})
		}
	}
}

// BenchmarkTLSStart is what one TLS accept with hello and start claim costs this process's CPU, clients being elsewhere;
// beside it the bare library's TLS accept and one small echo.
func BenchmarkTLSStart(b *testing.B) {
	for _, mode := range []string{"gateway", "bare"} {
		b.Run(mode, func(b *testing.B) {
			var addr string
			var pin keys.Pin
			kib := 0
			if mode == "bare" {
				var stop func()
				addr, pin, stop = bareTLS(b)
				defer stop()
			} else {
				addr, pin = gatewayTLS(b)
			}
			wait, stop := clientsProcess(b, addr, pin, b.N, kib, mode)
			b.ResetTimer()
			before := cpu(b)
			wait()
			used := cpu(b) - before
			b.StopTimer()
			stop()
			b.ReportMetric(used.Seconds()*1e6/float64(b.N), "cpu-µs/start")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
		})
	}
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
