package vnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair connects host a to host b.
func pair(t *testing.T, n *Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Host("b").Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = n.Host("a").Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func mustWrite(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

// mustBeSilent reads for d and wants nothing.
func mustBeSilent(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(d))
	defer c.SetReadDeadline(time.Time{})
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v, want a deadline", n, err)
	}
}

func TestBytesArriveInOrderAndThenTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, New(1))
		mustWrite(t, a, "one ")
		mustWrite(t, a, "two")
		a.Close()
		mustRead(t, b, "one two")
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("after the end: %v, want EOF", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write to a closed end: %v, want EPIPE", err)
		}
	})
}

func TestCutHoldsBackOneDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.Cut("a", "b")
		mustWrite(t, a, "held")
		mustWrite(t, b, "passes")
		mustRead(t, a, "passes")
		mustBeSilent(t, b, time.Hour)
		n.Heal("a", "b")
		mustRead(t, b, "held")
	})
}

func TestCutHidesTheOtherEndsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.CutBoth("a", "b")
		b.Close()
		mustWrite(t, a, "nobody knows")
		mustBeSilent(t, a, time.Minute)
		n.HealAll()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("after healing: %v, want EOF", err)
		}
	})
}

func TestDialWaitsForThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		l, err := n.Host("b").Listen(7)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Cut("b", "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "b:7"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial over a cut path: %v, want the deadline", err)
		}
		time.AfterFunc(time.Minute, n.HealAll)
		begun := time.Now()
		c, err := n.Host("a").Dial(t.Context(), "b:7")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if waited := time.Since(begun); waited != time.Minute {
			t.Fatalf("dial took %v, want until the healing", waited)
		}
	})
}

func TestDialIsRefusedWhereNobodyListens(t *testing.T) {
	if _, err := New(1).Host("a").Dial(t.Context(), "b:7"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, want ECONNREFUSED", err)
	}
}

func TestDelayIsOneWayAndKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.SetDelay("a", "b", 30*time.Millisecond)
		begun := time.Now()
		mustWrite(t, a, "slow ")
		n.SetDelay("a", "b", 0)
		mustWrite(t, a, "fast")
		mustRead(t, b, "slow fast")
		if d := time.Since(begun); d != 30*time.Millisecond {
			t.Fatalf("arrived after %v, want 30ms", d)
		}
		mustWrite(t, b, "back")
		mustRead(t, a, "back")
		if d := time.Since(begun); d != 30*time.Millisecond {
			t.Fatalf("the way back took time: %v", d)
		}
	})
}

func TestPausedHostIsSilentButReachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		l, err := n.Host("b").Listen(7)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Pause("b")
		c, err := n.Host("a").Dial(t.Context(), "b:7")
		if err != nil {
			t.Fatalf("a stopped process's kernel accepts: %v", err)
		}
		defer c.Close()
		mustWrite(t, b, "said while paused")
		mustWrite(t, a, "asked")
		mustBeSilent(t, a, time.Minute)
		n.Resume("b")
		mustRead(t, a, "said while paused")
		mustRead(t, b, "asked")
	})
}

func TestWriteWaitsForRoomUntilItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, New(1))
		big := bytes.Repeat([]byte("x"), bufferSize+10)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(big); n != bufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write = %d, %v, want the buffer's size and a deadline", n, err)
		}
		a.SetWriteDeadline(time.Time{})
		done := make(chan error, 1)
		go func() { _, err := a.Write(big[:10]); done <- err }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("write into a full buffer returned %v", err)
		default:
		}
		mustRead(t, b, string(big))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeadlineEndsAReadThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pair(t, New(1))
		done := make(chan error, 1)
		go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
		synctest.Wait()
		a.SetReadDeadline(time.Now())
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read: %v, want the deadline", err)
		}
		var timeout net.Error
		if _, err := a.Read(nil); err != nil && !errors.As(err, &timeout) {
			t.Fatalf("error is no net.Error: %v", err)
		}
	})
}

func TestLossResetsTheConnectionAlikePerSeed(t *testing.T) {
	survived := func(seed uint64) int {
		n := New(seed)
		a, _ := pair(t, n)
		n.SetLoss(0.05)
		for i := range 10000 {
			if _, err := a.Write([]byte("x")); err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Fatalf("write: %v, want ECONNRESET", err)
				}
				return i
			}
		}
		t.Fatal("no loss in 10,000 writes")
		return 0
	}
	if a, b := survived(3), survived(3); a != b {
		t.Fatalf("one seed gave %d and %d writes", a, b)
	}
}

func TestResetReachesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.Reset("a", "b")
		for name, c := range map[string]net.Conn{"a": a, "b": b} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s reads %v, want ECONNRESET", name, err)
			}
		}
	})
}

func TestCrashClosesWhatTheHostHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, _ := pair(t, n)
		l, err := n.Host("b").Listen(7)
		if err != nil {
			t.Fatal(err)
		}
		n.Crash("b")
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection: %v, want ECONNRESET", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listener: %v, want closed", err)
		}
		if l, err = n.Host("b").Listen(7); err != nil {
			t.Fatalf("the port is not free again: %v", err)
		}
		l.Close()
	})
}
