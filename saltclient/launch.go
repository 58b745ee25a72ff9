package saltclient

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

const (
	// startLimit is how long a minion lets the wrapper's first process live. It checks its arguments and detaches, in
	// milliseconds; longer means a file system that hangs.
	startLimit = 30 * time.Second
	maxGateway = 64   // URLs, as many as a wrapper takes
	maxPath    = 4096 // bytes of the wrapper's path
)

// StateOption names the option in a minion's configuration that gives the directory for what its wrappers keep, locks included.
// It is for hosts with several minions, which would share the default one's locks.
const StateOption = "sp_wrapper_state"

// Starter makes the publications that start wrappers. All minions of a launch get the same one; each fills in its own id and
// the directory of its key itself.
type Starter struct {
	Cluster  string                        // UUID
	Identity func() string                 // wrapper_identity in force
	URLs     func(*saltpeter.Job) []string // gateways that the job's wrappers dial
	// Secrets gives what a launch carries: its start token and the pin of the wrapper CA.
	Secrets func(saltpeter.LaunchID) (token, pin string, err error)
	// Module says that the minions have the execution module saltpeter; without it, cmd.run_all does.
	Module bool
}

// startScript starts its $0, or says that it isn't there and what to do. Left to itself, some versions of Salt answer that with the
// whole environment of the minion, which then stands in the job cache.
const startScript = `[ -x "$0" ] || { echo "sp_wrapper is not at $0: salt MINION state.apply saltpeter.wrapper" >&2; exit 127; }; exec "$0" "$@"`

// What each minion fills in itself.
const (
	machineWord = `{{ opts['id'] | string | quote }}`
	keyWord     = `{{ (opts['pki_dir'] ~ '/minion.pem') | quote }}`
	stateWords  = `{{ (' --state ' ~ opts['` + StateOption + `'] | string | quote) if opts.get('` + StateOption + `') else '' }}`
)

// errLaunch is under every error about what a launch would carry.
var errLaunch = errors.New("can't be launched through salt")

// carried is all that travels through Salt. Many can read it there: no command, environment or secret of a job is ever in it.
type carried struct {
	id, cluster, token, pin string
	urls                    []string
	window                  time.Duration
	identity                string
	wrapper                 string // path on the machine
}

// Publication makes what starts the wrappers of a launch on its machines, without a target; window is their start window.
func (s *Starter) Publication(launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) (*Publication, error) {
	token, pin, err := s.Secrets(launch.ID)
	if err != nil {
		return nil, err
	}
	c := carried{
		id: launch.ID.String(), cluster: s.Cluster, token: token, pin: pin, urls: s.URLs(job), window: window,
		identity: s.Identity(), wrapper: job.WrapperPath,
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if s.Module {
		return &Publication{ID: launch.ID, Function: "saltpeter.launch", Kwargs: c.kwargs()}, nil
	}
	return &Publication{ID: launch.ID, Function: "cmd.run_all", Kwargs: runAll(c.command(), startLimit)}, nil
}

// runAll gives the arguments of cmd.run_all for a text of ours.
func runAll(command string, limit time.Duration) map[string]any {
	return map[string]any{
		"cmd":      command,
		"template": "jinja",
		// Without a shell Salt splits the text as one would, and expands nothing.
		"python_shell": false,
		// Salt wants a shell that is there all the same, and takes the one of whoever started the minion.
		"shell":   "/bin/sh",
		"cwd":     "/", // else it is root's home, rendered as a template, too
		"timeout": int(limit / time.Second),
		// Nothing of it in the minion's log. What the wrapper says is returned: it is why it did not start.
		"output_loglevel": "quiet",
	}
}

// check refuses what would arrive as something else, or what no wrapper takes.
func (c *carried) check() error {
	for what, text := range map[string]string{"cluster": c.cluster, "token": c.token, "pin": c.pin} {
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
			return fmt.Errorf("%w: %s %q is malformed", errLaunch, what, text)
		}
	}
	if c.identity != saltpeter.IdentitySaltKey && c.identity != saltpeter.IdentityToken {
		return fmt.Errorf("%w: wrapper_identity %q (allowed: %s, %s)", errLaunch, c.identity, saltpeter.IdentitySaltKey, saltpeter.IdentityToken)
	}
	if c.window <= 0 {
		return fmt.Errorf("%w: start window %v", errLaunch, c.window)
	}
	if err := checkGateways(c.urls); err != nil {
		return err
	}
	if err := checkPath(c.wrapper); err != nil {
		return fmt.Errorf("%w: wrapper_path %q %w", errLaunch, c.wrapper, err)
	}
	return nil
}

// plain reports whether a rune means itself to jinja, to whoever splits a command line and in a list with commas.
func plain(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.:/+=", r))
}

func checkGateways(urls []string) error {
	if len(urls) == 0 || len(urls) > maxGateway {
		return fmt.Errorf("%w: %d gateways (allowed: 1 to %d)", errLaunch, len(urls), maxGateway)
	}
	for _, u := range urls {
		if err := checkGateway(u); err != nil {
			return fmt.Errorf("%w: gateway %q %w", errLaunch, u, err)
		}
	}
	return nil
}

func checkGateway(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if u.Scheme != "wss" || u.Host == "" {
		return errors.New("is not wss://host:port")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !plain(r) && r != '[' && r != ']' && r != '~' }) {
		return errors.New("has a character that is not allowed (letters, digits, -_.:/+=~ and [] are)")
	}
	return nil
}

func checkPath(text string) error {
	switch {
	case !path.IsAbs(text):
		return errors.New("is not absolute")
	case len(text) > maxPath:
		return fmt.Errorf("is longer than %d bytes", maxPath)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("has a control character, or is no UTF-8")
	case strings.Contains(text, "{{") || strings.Contains(text, "{%") || strings.Contains(text, "{#"):
		return errors.New("has {{, {% or {#, which a minion would take for a template")
	}
	return nil
}

// command gives the one text for all minions: rendered by each with its own options, then split as by a shell. The filter quote is
// shlex.quote in every supported version of Salt, which undoes it by shlex.split.
func (c *carried) command() string {
	words := []string{
		"/bin/sh -c", quote(startScript), quote(c.wrapper), "launch", "--id", c.id, "--machine", machineWord, "--cluster", c.cluster,
		"--urls", quote(strings.Join(c.urls, ",")), "--token", quote(c.token), "--pin", c.pin, "--window", c.window.String(), "--identity", c.identity,
	}
	if c.identity == saltpeter.IdentitySaltKey {
		words = append(words, "--key", keyWord)
	}
	return strings.Join(words, " ") + stateWords
}

// kwargs gives the arguments of the execution module.
func (c *carried) kwargs() map[string]any {
	return map[string]any{
		"launch_id": c.id, "cluster": c.cluster, "urls": strings.Join(c.urls, ","), "token": c.token, "pin": c.pin,
		"window": c.window.String(), "identity": c.identity, "wrapper": c.wrapper, "limit": int(startLimit / time.Second),
	}
}

// quote writes a word so that a splitter of command lines gives it back.
func quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'"'"'`) + "'"
}
