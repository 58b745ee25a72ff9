package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
)

// Defaults of a node's own settings.
const (
	DefaultConfigDir = "/etc/saltpeter"
	DefaultNodeFile  = "/etc/saltpeter-node.yaml"
	DefaultDataDir   = "/var/lib/saltpeter"
	DefaultSocket    = "/run/saltpeter/admin.sock"

	defaultNodePort   = 8890
	defaultGossipPort = 8891
	envPrefix         = "SALTPETER_"
)

// Node holds what is set for one node: by a flag, else by a SALTPETER_* variable, else in the node's file, else by default.
type Node struct {
	ConfigDir, LogDir                string
	API                              bool // listen for the API on other addresses than loopback too
	APIPort, WrapperPort             int
	WebsocketHost                    string
	Elasticsearch, Opensearch, Index string
	Version                          bool // print the version and exit
	DataDir, Socket                  string
	LocalState                       string // where the machines that this host plays keep their state; empty = the launcher's default
	Bind, Name, Advertise            string
	Join                             []string
	KeyFile, NodeFile                string
	NodePort, GossipPort             int
	SaltConfig, SaltPython           string // of the Salt master on this host: its configuration's directory, the interpreter that it runs in (empty = found)
	sources                          map[string]string
}

// option is one setting of a node.
type option struct {
	flag, short string
	usage       string
	target      func(n *Node) any // *string, *int, *bool or *[]string
	check       func(text string) error
}

// options lists a node's settings. The name of a variable and of a key in the node's file follow from the flag's.
func options() []option {
	return []option{
		{"configdir", "c", "configuration directory", func(n *Node) any { return &n.ConfigDir }, notEmpty},
		{"logdir", "l", "log directory", func(n *Node) any { return &n.LogDir }, notEmpty},
		{"api", "a", "serve the HTTP API on other addresses than loopback too", func(n *Node) any { return &n.API }, nil},
		{"port", "p", "HTTP API port", func(n *Node) any { return &n.APIPort }, nil},
		{"websocket-port", "w", "port for wrappers", func(n *Node) any { return &n.WrapperPort }, nil},
		{"websocket-host", "", "address to listen on for wrappers", func(n *Node) any { return &n.WebsocketHost }, addressOK},
		{"elasticsearch", "e", "Elasticsearch server for logging", func(n *Node) any { return &n.Elasticsearch }, checkURL},
		{"opensearch", "o", "OpenSearch server for logging", func(n *Node) any { return &n.Opensearch }, checkURL},
		{"index", "i", "index name for Elasticsearch and OpenSearch", func(n *Node) any { return &n.Index }, checkIndex},
		{"data-dir", "", "directory for this node's state", func(n *Node) any { return &n.DataDir }, notEmpty},
		{"local-state", "", "directory for the state of the machines that this host plays", func(n *Node) any { return &n.LocalState }, notEmpty},
		{"socket", "", "unix socket of the API", func(n *Node) any { return &n.Socket }, socketOK},
		{"bind", "", "address to listen on for API, wrappers, nodes and gossip", func(n *Node) any { return &n.Bind }, addressOK},
		{"name", "", "name of this node (default: the host's name)", func(n *Node) any { return &n.Name }, nameOK},
		{"advertise", "", "address under which other nodes and wrappers reach this node", func(n *Node) any { return &n.Advertise }, hostOK},
		{"join", "", "address of a node of the cluster to join (repeatable)", func(n *Node) any { return &n.Join }, hostOK},
		{"key-file", "", "file with the cluster's key (default: in the data directory)", func(n *Node) any { return &n.KeyFile }, notEmpty},
		{"node-file", "", "file with this node's own settings", func(n *Node) any { return &n.NodeFile }, notEmpty},
		{"node-port", "", "port for other nodes", func(n *Node) any { return &n.NodePort }, nil},
		{"gossip-port", "", "port for gossip (TCP and UDP)", func(n *Node) any { return &n.GossipPort }, nil},
		{"salt-config", "", "directory with the configuration of the Salt master on this host", func(n *Node) any { return &n.SaltConfig }, notEmpty},
		{"salt-python", "", "Python that Salt is installed in (default: found by its salt-master program)", func(n *Node) any { return &n.SaltPython }, notEmpty},
	}
}

func defaultNode() Node {
	s := saltpeter.DefaultSettings()
	return Node{ConfigDir: DefaultConfigDir, LogDir: s.LogDir, APIPort: s.APIPort, WrapperPort: s.WrapperPort, WebsocketHost: s.WrapperBind,
		Index: s.ElasticsearchIndex, DataDir: DefaultDataDir, Socket: DefaultSocket, NodeFile: DefaultNodeFile,
		NodePort: defaultNodePort, GossipPort: defaultGossipPort, SaltConfig: "/etc/salt", sources: make(map[string]string)}
}

// AddFlags defines a node's flags, with their defaults, on a flag set.
func AddFlags(fs *pflag.FlagSet) {
	n := defaultNode()
	for _, o := range options() {
		switch v := o.target(&n).(type) {
		case *string:
			fs.StringP(o.flag, o.short, *v, o.usage)
		case *int:
			fs.IntP(o.flag, o.short, *v, o.usage)
		case *bool:
			fs.BoolP(o.flag, o.short, *v, o.usage)
		case *[]string:
			fs.StringSliceP(o.flag, o.short, *v, o.usage)
		}
	}
	fs.BoolP("version", "v", false, "print the version and exit")
}

// ReadNode works out a node's settings from parsed flags (see AddFlags), the environment (as os.Environ gives it) and the node's
// file. Everything that is wrong is among the problems; those of level error forbid the start. The default file may be absent.
func ReadNode(fs *pflag.FlagSet, environ []string) (Node, []saltpeter.Problem) {
	n, rep := defaultNode(), new(report)
	n.Version, _ = fs.GetBool("version")
	env := environment(environ, rep)
	fileFrom := "default"
	if v := env["node-file"]; v != "" {
		n.NodeFile, fileFrom = v, "variable"
	}
	if f := fs.Lookup("node-file"); f != nil && f.Changed {
		n.NodeFile, fileFrom = f.Value.String(), "flag"
	}
	n.readFile(rep, fileFrom != "default")
	for _, o := range options() {
		if text, ok := env[o.flag]; ok {
			n.set(rep, o, split(text), envName(o.flag))
		}
		if f := fs.Lookup(o.flag); f != nil && f.Changed {
			n.set(rep, o, flagTexts(f), "--"+o.flag)
		}
	}
	if n.Name == "" {
		n.Name, _ = os.Hostname()
		if n.Name == "" {
			rep.addProblem(saltpeter.Problem{File: "name", Level: LevelError, Message: "the host has no name", Hint: "use --name"})
		}
	}
	return n, rep.problems
}

// Source says where a setting, named as its flag, comes from: "--port", "SALTPETER_PORT", "/etc/saltpeter-node.yaml:3" or "default".
func (n *Node) Source(flag string) string {
	if s, ok := n.sources[flag]; ok {
		return s
	}
	return "default"
}

// given reports whether a setting is written anywhere.
func (n *Node) given(flag string) bool { return n.sources[flag] != "" }

// environment picks the variables that set something, by the name of the flag.
func environment(environ []string, rep *report) map[string]string {
	env := make(map[string]string)
	var known []string
	for _, o := range options() {
		known = append(known, envName(o.flag))
	}
	for _, line := range environ {
		name, text, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, envPrefix) || text == "" {
			continue
		}
		if slices.Contains(known, name) {
			if strings.HasPrefix(text, "tcp://") {
				// Kubernetes and Docker set SALTPETER_PORT for a service of that name.
				rep.addProblem(saltpeter.Problem{File: name, Level: LevelWarning, Message: "is ignored: a container platform set it"})
				continue
			}
			env[strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")] = text
			continue
		}
		if near := didYouMean(name, known); near != "" {
			rep.addProblem(saltpeter.Problem{File: name, Level: LevelWarning, Message: "no setting has this name", Hint: "did you mean " + near + "?"})
		}
	}
	return env
}

// envName gives the variable of a flag or key: SALTPETER_DATA_DIR.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func keyName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

func flagTexts(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

func split(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// set sets one option from texts and remembers where from.
func (n *Node) set(rep *report, o option, texts []string, source string) {
	if err := o.assign(n, texts); err != nil {
		rep.addProblem(saltpeter.Problem{File: source, Level: LevelError, Message: err.Error()})
		return
	}
	n.sources[o.flag] = source
}

func (o option) assign(n *Node, texts []string) error {
	text := strings.Join(texts, ",")
	for _, t := range texts {
		if o.check == nil {
			break
		}
		if err := o.check(t); err != nil {
			return err
		}
	}
	switch v := o.target(n).(type) {
	case *string:
		*v = text
	case *[]string:
		*v = texts
	case *int:
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("%q is not a port (allowed: 1 to 65535)", text)
		}
		*v = port
	case *bool:
		yes, err := strconv.ParseBool(strings.ToLower(text))
		if s := resolve(text); err != nil && s.kind == kindBool {
			yes, err = s.yes, nil
		}
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*v = yes
	}
	return nil
}

// readFile reads the node's file; must says that it has to exist.
func (n *Node) readFile(rep *report, must bool) {
	data, err := readFile(n.NodeFile)
	switch {
	case errors.Is(err, os.ErrNotExist) && !must:
		return
	case err != nil:
		rep.addProblem(saltpeter.Problem{File: n.NodeFile, Level: LevelError, Message: fmt.Sprintf("read file: %v", cause(err))})
		return
	}
	n.readYAML(rep, string(data))
}

func (n *Node) readYAML(rep *report, text string) {
	src := newSource(n.NodeFile, strings.TrimPrefix(text, "\uFEFF"))
	root := parse(src, rep)
	if root == nil {
		return
	}
	top := newDecoder(src, rep).decode(root, "", 0).val
	if top.kind == kindNull {
		return
	}
	if top.kind != kindMap {
		rep.errorf(top.at(), "", "write such as bind: 10.0.0.1", "the file is %s, a mapping is wanted", top.kind)
		return
	}
	r := newReader(rep, top, "")
	var known []string
	for _, o := range options() {
		if o.flag == "node-file" {
			continue
		}
		known = append(known, keyName(o.flag))
		n.fromFile(r, o)
	}
	r.unknown(func(f field) {
		r.errorf(f.key.at(), f.name, unknownHint(f.name, known), "%s is not a setting of a node", f.name)
	})
}

// fromFile takes one option from the node's file.
func (n *Node) fromFile(r *reader, o option) {
	f, ok := r.get(keyName(o.flag))
	if !ok {
		return
	}
	var texts []string
	switch o.target(n).(type) {
	case *[]string:
		texts = r.texts(f.name, true)
	case *bool:
		texts = []string{strconv.FormatBool(r.flag(f.name, false))}
	case *int:
		texts = []string{strconv.Itoa(r.number(f.name, 1, 1, 65535))}
	default:
		texts = []string{r.text(f.name, "")}
	}
	if err := o.assign(n, texts); err != nil {
		r.fail(f, "", "%v", err)
		return
	}
	n.sources[o.flag] = fmt.Sprintf("%s:%d", n.NodeFile, f.at().line)
}

func notEmpty(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("is empty")
	}
	return nil
}

func addressOK(text string) error {
	_, err := parseAddress(text)
	return err
}

// maxSocket is the longest path that a unix socket can have on Linux.
const maxSocket = 107

func socketOK(text string) error {
	if len(text) > maxSocket {
		return fmt.Errorf("the path of a unix socket has at most %d bytes", maxSocket)
	}
	return notEmpty(text)
}

func nameOK(text string) error {
	if text == "" || len(text) > 64 || strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	}) {
		return fmt.Errorf("%q can't name a node (letters, digits, . _ -, at most 64)", text)
	}
	return nil
}

// hostOK accepts a host name or an address, with a port or without.
func hostOK(text string) error {
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		host = h
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q has no port from 1 to 65535", text)
		}
	}
	if host == "" || strings.ContainsAny(host, " /\t,@") {
		return fmt.Errorf("%q is not a host or host:port", text)
	}
	return nil
}
