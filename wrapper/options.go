package wrapper

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/filename"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// maxURLs bounds the gateways of a launch.
const maxURLs = 64

// Options are the arguments of `sp_wrapper launch`, checked.
type Options struct {
	Launch  string // 20 digits
	Machine string
	Cluster string // UUID
	URLs    []string
	Token   string
	Pin     keys.Pin
	Window  time.Duration                                // start window
	Prove   func(transcript []byte) (*wire.Proof, error) // nil = the token is all
	State   string                                       // directory for journal, spool and the wrapper's own log
	// LockDir is where the default lock file of a job lies.
	LockDir string
}

// ParseOptions reads and checks the arguments after "launch". Usage errors are described on stderr's behalf in the error.
func ParseOptions(args []string) (*Options, error) {
	var (
		o                              Options
		urls, pin, identity, key, stat string
	)
	fs := flag.NewFlagSet("launch", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.Launch, "id", "", "launch id")
	fs.StringVar(&o.Machine, "machine", "", "this machine's id")
	fs.StringVar(&o.Cluster, "cluster", "", "cluster UUID")
	fs.StringVar(&urls, "urls", "", "gateways, separated by commas")
	fs.StringVar(&o.Token, "token", "", "start token")
	fs.StringVar(&pin, "pin", "", "pin of the wrapper CA's key")
	fs.DurationVar(&o.Window, "window", time.Minute, "start window")
	fs.StringVar(&identity, "identity", identityToken, "salt-key, ed25519-file or token")
	fs.StringVar(&key, "key", "", "private key (PEM): minion.pem, or Ed25519 in PKCS 8")
	fs.StringVar(&stat, "state", "", "state directory")
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("read arguments: %w", err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("read arguments: unexpected %q", fs.Arg(0))
	}
	var errs [4]error
	errs[0] = o.check()
	o.URLs, errs[1] = parseURLs(urls)
	o.Pin, errs[2] = keys.ParsePin(pin)
	o.Prove, errs[3] = loadIdentity(identity, key)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if stat == "" {
		o.State, o.LockDir = defaultState(o.Cluster, o.Machine), "/tmp"
		return &o, nil
	}
	dir, err := filepath.Abs(stat)
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	o.State, o.LockDir = dir, dir
	return &o, nil
}

// check checks what is a plain string or number.
func (o *Options) check() error {
	if _, err := saltpeter.ParseLaunchID(o.Launch); err != nil {
		return fmt.Errorf("--id: %w", err)
	}
	for _, f := range []struct{ name, value string }{{"machine", o.Machine}, {"cluster", o.Cluster}, {"token", o.Token}} {
		if f.value == "" || len(f.value) > 4096 || strings.ContainsRune(f.value, 0) {
			return fmt.Errorf("--%s: missing or malformed", f.name)
		}
	}
	if o.Window <= 0 {
		return fmt.Errorf("--window: %v is not a positive duration", o.Window)
	}
	return nil
}

// parseURLs reads a list of wss URLs; one without a path gets the protocol's.
func parseURLs(list string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("--urls: %w", err)
		}
		if u.Scheme != "wss" || u.Host == "" || u.User != nil {
			return nil, fmt.Errorf("--urls: %q is not wss://host:port", part)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = wire.Path
		}
		out = append(out, u.String())
	}
	if len(out) > maxURLs {
		return nil, fmt.Errorf("--urls: %d of them (at most %d)", len(out), maxURLs)
	}
	return out, nil
}

// defaultState is where a wrapper of this cluster and machine keeps its files.
func defaultState(cluster, machine string) string {
	base := "/var/lib"
	if os.Geteuid() != 0 {
		if base = os.Getenv("XDG_STATE_HOME"); !filepath.IsAbs(base) {
			base = filepath.Join(os.Getenv("HOME"), ".local", "state")
		}
		if !filepath.IsAbs(base) {
			base = filepath.Join(os.TempDir(), fmt.Sprintf("sp_wrapper-%d", os.Geteuid()))
		}
	}
	return filepath.Join(base, "sp_wrapper", filename.Of(cluster), filename.Of(machine))
}
