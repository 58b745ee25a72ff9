package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
)

// readNode reads a node's settings from a command line, variables and the text of a file ("" = no file).
func readNode(t *testing.T, args, environ []string, file string) (Node, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if file != "" {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, "SALTPETER_NODE_FILE="+path)
	}
	fs := pflag.NewFlagSet("saltpeter", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	n, problems := ReadNode(fs, environ)
	var all []string
	for _, p := range problems {
		all = append(all, strings.ReplaceAll(p.String(), path, "NODE"))
	}
	for flag, s := range n.sources {
		n.sources[flag] = strings.ReplaceAll(s, path, "NODE")
	}
	return n, strings.Join(all, "\n")
}

func TestNodeDefaults(t *testing.T) {
	n, problems := readNode(t, nil, nil, "")
	if problems != "" {
		t.Error(problems)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if n.ConfigDir != "/etc/saltpeter" || n.LogDir != "/var/log/saltpeter" || n.DataDir != "/var/lib/saltpeter" || n.Name != host ||
		n.NodePort != 8890 || n.GossipPort != 8891 || n.Source("port") != "default" {
		t.Errorf("defaults are %+v", n)
	}
}

// The command line of the service file that people have.
func TestNodeCommandLine(t *testing.T) {
	n, problems := readNode(t, strings.Fields("-c /c -l /l -a -p 1 -w 2 --websocket-host 127.0.0.9 -e http://e:9200 -o https://o -i ix -v "+
		"--data-dir /d --socket /s --bind 10.0.0.1 --name n1 --advertise n1.example:8890 --join a:1 --join b,c --key-file /k --node-port 3 --gossip-port 4"),
		nil, "")
	if problems != "" {
		t.Error(problems)
	}
	want := Node{ConfigDir: "/c", LogDir: "/l", API: true, APIPort: 1, WrapperPort: 2, WebsocketHost: "127.0.0.9", Elasticsearch: "http://e:9200",
		Opensearch: "https://o", Index: "ix", Version: true, DataDir: "/d", Socket: "/s", Bind: "10.0.0.1", Name: "n1", Advertise: "n1.example:8890",
		KeyFile: "/k", NodePort: 3, GossipPort: 4}
	if strings.Join(n.Join, " ") != "a:1 b c" || n.Source("data-dir") != "--data-dir" {
		t.Errorf("join is %v, source %s", n.Join, n.Source("data-dir"))
	}
	if n.ConfigDir != want.ConfigDir || n.LogDir != want.LogDir || n.API != want.API || n.APIPort != want.APIPort ||
		n.WrapperPort != want.WrapperPort || n.WebsocketHost != want.WebsocketHost || n.Elasticsearch != want.Elasticsearch ||
		n.Opensearch != want.Opensearch || n.Index != want.Index || n.Version != want.Version || n.DataDir != want.DataDir ||
		n.Socket != want.Socket || n.Bind != want.Bind || n.Name != want.Name || n.Advertise != want.Advertise ||
		n.KeyFile != want.KeyFile || n.NodePort != want.NodePort || n.GossipPort != want.GossipPort {
		t.Errorf("got %+v\nwant %+v", n, want)
	}
}

func TestNodePrecedence(t *testing.T) {
	const file = "port: 3\nbind: 10.0.0.3\n"
	env := []string{"SALTPETER_PORT=2", "OTHER=1"}
	tests := []struct {
		name         string
		args, env    []string
		file         string
		port         int
		source, bind string
	}{
		{"all", []string{"-p", "1", "--bind", "10.0.0.1"}, env, file, 1, "--port", "10.0.0.1"},
		{"the flag's default is not the flag", []string{"-p", "8888"}, env, file, 8888, "--port", "10.0.0.3"},
		{"variable", nil, env, file, 2, "SALTPETER_PORT", "10.0.0.3"},
		{"file", nil, nil, file, 3, "NODE:1", "10.0.0.3"},
		{"an empty variable is none", nil, []string{"SALTPETER_PORT="}, file, 3, "NODE:1", "10.0.0.3"},
		{"default", nil, nil, "", 8888, "default", ""},
	}
	for _, tt := range tests {
		n, problems := readNode(t, tt.args, tt.env, tt.file)
		if problems != "" || n.APIPort != tt.port || n.Source("port") != tt.source || n.Bind != tt.bind {
			t.Errorf("%s: port %d from %s, bind %q, problems %q", tt.name, n.APIPort, n.Source("port"), n.Bind, problems)
		}
	}
}

func TestNodeProblems(t *testing.T) {
	tests := []struct {
		name      string
		args, env []string
		file      string
		want      string
	}{
		{"port", []string{"-p", "70000"}, nil, "", `--port: error: "70000" is not a port (allowed: 1 to 65535)`},
		{"variable", nil, []string{"SALTPETER_WEBSOCKET_PORT=x"}, "", `SALTPETER_WEBSOCKET_PORT: error: "x" is not a port (allowed: 1 to 65535)`},
		{"bool", nil, []string{"SALTPETER_API=perhaps"}, "", `SALTPETER_API: error: "perhaps" is neither true nor false`},
		{"near variable", nil, []string{"SALTPETER_BINDD=x"}, "", "SALTPETER_BINDD: warning: no setting has this name (did you mean SALTPETER_BIND?)"},
		{"Kubernetes", nil, []string{"SALTPETER_PORT=tcp://10.1.2.3:8888"}, "", "SALTPETER_PORT: warning: is ignored: a container platform set it"},
		{"bind", []string{"--bind", "eth0"}, nil, "", `--bind: error: "eth0" is not an IP address`},
		{"join", []string{"--join", "a:b"}, nil, "", `--join: error: "a:b" has no port from 1 to 65535`},
		{"name", []string{"--name", "a b"}, nil, "", `--name: error: "a b" can't name a node (letters, digits, . _ -, at most 64)`},
		{"socket", []string{"--socket", "/" + strings.Repeat("x", 120)}, nil, "", "--socket: error: the path of a unix socket has at most 107 bytes"},
		{"file absent", []string{"--node-file", "/nonexistent/n.yaml"}, nil, "", "/nonexistent/n.yaml: error: read file: no such file or directory"},
		{"file key", nil, nil, "bindd: x", "NODE:1:1: error: bindd: bindd is not a setting of a node (did you mean bind?)"},
		{"file value", nil, nil, "bind: eth0", `NODE:1:7: error: bind: "eth0" is not an IP address`},
		{"file list", nil, nil, "[a]", "NODE:1:1: error: the file is a list, a mapping is wanted (write such as bind: 10.0.0.1)"},
		{"file port", nil, nil, "port: 0", `NODE:1:7: error: port: is "0", a whole number from 1 to 65535 is wanted (allowed is 1 to 65535)`},
	}
	for _, tt := range tests {
		if _, problems := readNode(t, tt.args, tt.env, tt.file); problems != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, problems, tt.want)
		}
	}
}

func TestNodeFile(t *testing.T) {
	n, problems := readNode(t, nil, nil, "name: n2\njoin: [a, 'b:8890']\ndata_dir: /d\napi: on\nkey_file: /k\nsocket: /s\nadvertise: 10.0.0.2\n")
	if problems != "" || n.Name != "n2" || len(n.Join) != 2 || n.DataDir != "/d" || !n.API || n.KeyFile != "/k" || n.Source("api") != "NODE:4" {
		t.Errorf("%+v %s", n, problems)
	}
	if n, problems := readNode(t, nil, nil, "join: one\n"); problems != "" || len(n.Join) != 1 {
		t.Errorf("%+v %s", n, problems)
	}
	if _, problems := readNode(t, nil, nil, "# nothing\n"); problems != "" {
		t.Error(problems)
	}
}

func TestEffective(t *testing.T) {
	tests := []struct {
		name, args string
		set        func(s *saltpeter.Settings)
		want       string // API, wrapper, node, gossip
	}{
		{"default", "", nil, "127.0.0.1:8888 | 0.0.0.0:8889 0.0.0.0:8890 0.0.0.0:8891"},
		{"-a", "-a", nil, "0.0.0.0:8888 | 0.0.0.0:8889 0.0.0.0:8890 0.0.0.0:8891"},
		{"-a and bind", "-a --bind 10.0.0.1", nil, "127.0.0.1:8888 10.0.0.1:8888 | 10.0.0.1:8889 10.0.0.1:8890 10.0.0.1:8891"},
		{"bind without -a", "--bind 10.0.0.1", nil, "127.0.0.1:8888 | 10.0.0.1:8889 10.0.0.1:8890 10.0.0.1:8891"},
		{"bind on loopback moves it", "--bind 127.0.0.5 -p 1 -w 2", nil, "127.0.0.5:1 | 127.0.0.5:2 127.0.0.5:8890 127.0.0.5:8891"},
		{"and -a adds nothing", "--bind 127.0.0.5 -a", nil, "127.0.0.5:8888 | 127.0.0.5:8889 127.0.0.5:8890 127.0.0.5:8891"},
		{"narrower flag", "--bind 10.0.0.1 --websocket-host 10.0.0.2", nil, "127.0.0.1:8888 | 10.0.0.2:8889 10.0.0.1:8890 10.0.0.1:8891"},
		{"IPv6", "-a --bind ::1", nil, "[::1]:8888 | [::1]:8889 [::1]:8890 [::1]:8891"},
		{"all of IPv6", "-a --bind ::", nil, "[::]:8888 | [::]:8889 [::]:8890 [::]:8891"},
		{"files", "", func(s *saltpeter.Settings) {
			s.APIWS, s.APIBind, s.APIPort, s.WrapperBind, s.WrapperPort = true, "10.0.0.7", 1, "10.0.0.8", 2
		}, "127.0.0.1:1 10.0.0.7:1 | 10.0.0.8:2 0.0.0.0:8890 0.0.0.0:8891"},
		{"flags over files", "-p 3 -w 4 --bind 10.0.0.1", func(s *saltpeter.Settings) {
			s.APIWS, s.APIBind, s.APIPort, s.WrapperBind, s.WrapperPort = true, "10.0.0.7", 1, "10.0.0.8", 2
		}, "127.0.0.1:3 10.0.0.1:3 | 10.0.0.1:4 10.0.0.1:8890 10.0.0.1:8891"},
		{"--api=false over files", "--api=false", func(s *saltpeter.Settings) { s.APIWS = true }, "127.0.0.1:8888 | 0.0.0.0:8889 0.0.0.0:8890 0.0.0.0:8891"},
	}
	for _, tt := range tests {
		n, problems := readNode(t, strings.Fields(tt.args), nil, "")
		s := saltpeter.DefaultSettings()
		if tt.set != nil {
			tt.set(&s)
		}
		l, err := Effective(n, s)
		if err != nil || problems != "" {
			t.Errorf("%s: %v %s", tt.name, err, problems)
		}
		if got := strings.Join(l.API, " ") + " | " + l.Wrapper + " " + l.Node + " " + l.Gossip; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestEffectiveCollision(t *testing.T) {
	for args, collides := range map[string]bool{
		"-p 8889":                                 true, // loopback lies in 0.0.0.0
		"-w 8890":                                 true,
		"--node-port 8891":                        true,
		"-p 8889 --websocket-host 10.0.0.1":       false,
		"-a -p 8889 --websocket-host 10.0.0.1":    true,
		"-p 1 -w 2 --node-port 3 --gossip-port 4": false,
	} {
		n, _ := readNode(t, strings.Fields(args), nil, "")
		if _, err := Effective(n, saltpeter.DefaultSettings()); (err != nil) != collides {
			t.Errorf("%s: %v", args, err)
		} else if collides && saltpeter.CodeOf(err) != saltpeter.CodeConfig {
			t.Errorf("%s: code %s", args, saltpeter.CodeOf(err))
		}
	}
}

func TestOverride(t *testing.T) {
	base := saltpeter.DefaultSettings()
	base.Elasticsearch, base.OpensearchIndex, base.LogDir = "http://files", "files", "/files"
	n, _ := readNode(t, nil, nil, "")
	if s := n.Override(base); s.Elasticsearch != "http://files" || s.OpensearchIndex != "files" || s.LogDir != "/files" {
		t.Errorf("nothing given, but %+v", s)
	}
	n, _ = readNode(t, strings.Fields("-e http://e -o http://o -i ix -l /l"), nil, "")
	s := n.Override(base)
	if s.Elasticsearch != "http://e" || s.Opensearch != "http://o" || s.ElasticsearchIndex != "ix" || s.OpensearchIndex != "ix" || s.LogDir != "/l" {
		t.Errorf("given, but %+v", s)
	}
}
