package client

import (
	"net/url"
	"strings"

	"github.com/syscollective/saltpeter"
)

// Addr is the address of one node's API: a URL, or a unix socket.
type Addr struct {
	Socket string // path, for unix:///PATH
	URL    string // "http://host:port", without a slash at its end
}

// String gives the address as it is written.
func (a Addr) String() string {
	if a.Socket != "" {
		return "unix://" + a.Socket
	}
	return a.URL
}

func (a Addr) base() string {
	if a.Socket != "" {
		return "http://saltpeter"
	}
	return a.URL
}

// ParseAddrs takes a comma list of http://HOST:PORT, https://HOST:PORT, HOST:PORT and unix:///PATH.
func ParseAddrs(list string) ([]Addr, error) {
	var addrs []Addr
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		a, err := parseAddr(part)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	if len(addrs) == 0 {
		return nil, badAddr(list)
	}
	return addrs, nil
}

func parseAddr(text string) (Addr, error) {
	if path, ok := strings.CutPrefix(text, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return Addr{}, badAddr(text)
		}
		return Addr{Socket: path}, nil
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Addr{}, badAddr(text)
	}
	return Addr{URL: strings.TrimSuffix(u.String(), "/")}, nil
}

func badAddr(text string) error {
	return saltpeter.Errorf(saltpeter.CodeInvalid, "%q is not an address of a node", text).
		WithHint("write http://IP:PORT or unix:///PATH, several with commas between")
}
