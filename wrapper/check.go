package wrapper

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// checkDial is how long check waits for a gateway's challenge.
const checkDial = 6 * time.Second

// errCheckFailed ends check after it has told what is wrong.
var errCheckFailed = errors.New("a wrapper can't work here")

// checkOptions are the arguments of `sp_wrapper check`.
type checkOptions struct {
	machine, cluster, key, state string
	urls                         []string
	pin                          keys.Pin
	json                         bool
}

// parseCheck reads the arguments after "check".
func parseCheck(args []string) (*checkOptions, error) {
	var o checkOptions
	var urls, pin string
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&urls, "urls", "", "gateways, separated by commas")
	fs.StringVar(&pin, "pin", "", "pin of the wrapper CA's key")
	fs.StringVar(&o.cluster, "cluster", "", "cluster UUID; empty takes any")
	fs.StringVar(&o.key, "key", "", "the minion's private key; empty leaves it out")
	fs.StringVar(&o.machine, "machine", "", "this machine's id; empty leaves the state directory out")
	fs.StringVar(&o.state, "state", "", "state directory")
	fs.BoolVar(&o.json, "json", false, "tell it as JSON")
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("read arguments: %w", err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("read arguments: unexpected %q", fs.Arg(0))
	}
	if o.state == "" && o.machine != "" {
		o.state = defaultState(o.cluster, o.machine)
	}
	if urls == "" {
		return nil, errors.New("--urls: missing: wss://host:port, several with commas between")
	}
	var errs [2]error
	o.urls, errs[0] = parseURLs(urls)
	o.pin, errs[1] = keys.ParsePin(pin)
	return &o, errors.Join(errs[:]...)
}

// check tells whether a wrapper could work on this machine. It starts nothing and needs no token: a gateway that sends its
// challenge is reached.
func check(args []string, version string, std Streams) error {
	o, err := parseCheck(args)
	if err != nil {
		return err
	}
	c := wire.Checkup{Version: version, Protocol: wire.Version, Millis: time.Now().UnixMilli(), Gateways: dialAll(context.Background(), newDialer(o.pin), o.urls, o.cluster)}
	if o.key != "" {
		c.Key = checkKey(o.key)
	}
	if o.state != "" {
		c.State = checkState(o.state)
	}
	if err := tellCheck(&c, o.json, std.Out); err != nil {
		return err
	}
	if !c.OK() {
		return errCheckFailed
	}
	return nil
}

// tellCheck writes what was found, one thing on a line, or as JSON.
func tellCheck(c *wire.Checkup, asJSON bool, out io.Writer) error {
	if asJSON {
		return json.NewEncoder(out).Encode(c)
	}
	lines := [][3]string{{"sp_wrapper", c.Version, ""}}
	if k := c.Key; k != nil {
		lines = append(lines, [3]string{"key", k.Path, orOK(k.Error)})
	}
	if s := c.State; s != nil {
		lines = append(lines, [3]string{"state", s.Path, orOK(s.Error)})
	}
	for _, g := range c.Gateways {
		text := fmt.Sprintf("%s after %d ms", g.Result, g.Millis)
		if g.Detail != "" {
			text += ": " + g.Detail
		}
		lines = append(lines, [3]string{"gateway", g.URL, text})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "%-10s  %s  %s\n", l[0], l[1], l[2]); err != nil {
			return err
		}
	}
	return nil
}

func orOK(text string) string {
	if text == "" {
		return "ok"
	}
	return text
}

// checkKey reads the minion's key as a launch does, and names its public half, for whoever knows what the master has accepted.
func checkKey(path string) *wire.KeyCheck {
	out := &wire.KeyCheck{Path: path}
	block, err := readKeyFile(path)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	private, err := parseSaltKey(block)
	if err != nil {
		out.Error = fmt.Sprintf("%s: %v", path, err)
		return out
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		out.Error = fmt.Sprintf("%s: %v", path, err)
		return out
	}
	sum := sha256.Sum256(der)
	out.Public = sum[:]
	return out
}

// checkState makes the directory as a launch does, and writes there.
func checkState(dir string) *wire.StateCheck {
	out := &wire.StateCheck{Path: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		out.Error = err.Error()
		return out
	}
	f, err := tempFile(dir)
	if err == nil {
		_, err = f.WriteString("sp_wrapper check\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// dialAll dials all gateways at once.
func dialAll(ctx context.Context, d Dialer, urls []string, cluster string) []wire.DialCheck {
	out := make([]wire.DialCheck, len(urls))
	var g sync.WaitGroup
	for i, u := range urls {
		g.Go(func() { out[i] = dialCheck(ctx, d, u, cluster) })
	}
	g.Wait()
	return out
}

// dialCheck dials one and waits for its challenge, like a session's race.
func dialCheck(ctx context.Context, d Dialer, gateway, cluster string) wire.DialCheck {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, checkDial)
	defer cancel()
	otherCluster := false
	r := dialOne(ctx, d, gateway, func(m *wire.Message) error {
		want := cluster
		if want == "" {
			want = m.Cluster
		}
		otherCluster = m.Cluster != want
		return wantChallenge(m, want)
	})
	out := wire.DialCheck{URL: gateway, Result: wire.DialOK}
	if r.err == nil {
		r.link.Close()
	} else {
		out.Detail = causeOf(r.err).Error()
		out.Result = dialResult(r.err)
		if otherCluster {
			out.Result = wire.DialCluster
		}
	}
	out.Millis = time.Since(began).Milliseconds()
	return out
}

// causeOf leaves out what the libraries were doing when it failed: who reads it knows.
func causeOf(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// dialResult names a failure.
func dialResult(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return wire.DialHost
	}
	switch {
	case errors.Is(err, keys.ErrPeer):
		return wire.DialPin
	case errors.Is(err, syscall.ECONNREFUSED):
		return wire.DialRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return wire.DialTimeout
	}
	return wire.DialFailed
}
