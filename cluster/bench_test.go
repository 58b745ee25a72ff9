package cluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/internal/entry"
)

// quiet is a state machine that does nothing with its commands.
type quiet struct{ journal }

func (*quiet) Apply(log *raft.Log) any {
	cmds, err := entry.Split(log.Data)
	if err != nil {
		return err
	}
	return make([]any, len(cmds))
}

// BenchmarkPropose is commands of 200 bytes per second on one voter on disk, with 1, 16 and 256 callers that each wait for
// their outcome; beside it the same callers with bare raft.Apply, where every command is an entry of its own.
func BenchmarkPropose(b *testing.B) {
	ways := []struct {
		name string
		do   func(n *Node, cmd []byte) error
	}{
		{"propose", func(n *Node, cmd []byte) error {
			_, err := n.Propose(context.Background(), Normal, cmd)
			return err
		}},
		{"bare", func(n *Node, cmd []byte) error {
			return n.raft.Apply(entry.Append(nil, cmd), 0).Error()
		}},
	}
	for _, callers := range []int{1, 16, 256} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%s/callers=%d", way.name, callers), func(b *testing.B) {
				node, _, err := diskNode(b, b.TempDir(), func(c *Config) { c.FSM = &quiet{}; c.Timings = Timings{} })
				if err != nil {
					b.Fatal(err)
				}
				defer running(b, node)()
				measure(b, callers, func() error { return way.do(node, make([]byte, 200)) })
			})
		}
	}
}

// measure runs do b.N times from that many goroutines and reports the rate and the latency.
func measure(b *testing.B, callers int, do func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	latencies := make([][]time.Duration, callers)
	var group sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				begun := time.Now()
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(begun))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	all := slices.Sorted(slices.Values(slices.Concat(latencies...)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkCall is round trips over the link on a real socket, without TLS, to a handler that answers at once.
func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 256} {
		for _, size := range []int{100, 64 << 10} {
			b.Run(fmt.Sprintf("callers=%d/bytes=%d", callers, size), func(b *testing.B) {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				var group sync.WaitGroup
				defer group.Wait()
				defer cancel()
				group.Go(func() {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					if _, err := readPreface(conn); err == nil {
						serveLink(ctx, conn, time.Minute, func(context.Context, *frame) ([]byte, error) { return nil, nil })
					}
					conn.Close()
				})
				var dialer net.Dialer
				p := &port{self: "b", timings: Timings{}.withDefaults(), conns: map[*portConn]bool{}, closed: make(chan struct{}), listener: listener,
					dial: func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }}
				defer p.close()
				l := newLink(Member{ID: "a", Addr: listener.Addr().String()}, p)
				group.Go(func() { l.run(ctx) })
				payload := make([]byte, size)
				b.SetBytes(int64(size))
				measure(b, callers, func() error {
					_, err := l.do(ctx, frameRequest, Normal, 0, payload)
					return err
				})
			})
		}
	}
}
