package config

import (
	"errors"
	"slices"
	"testing"
)

func TestWhereOtherNodesAre(t *testing.T) {
	n := Node{Join: []string{"10.0.0.1", "sp-2:9000", "fe80::1", "sp-3"}}
	want := []string{"10.0.0.1:8890", "sp-2:9000", "[fe80::1]:8890", "sp-3:8890"}
	if got := n.JoinAddresses(); !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
}

func TestWhereOthersReachThisNode(t *testing.T) {
	names := map[string][]string{"sp-1": {"10.0.0.7"}, "debian": {"127.0.1.1"}}
	lookup := func(host string) ([]string, error) {
		if a, ok := names[host]; ok {
			return a, nil
		}
		return nil, errors.New("no such host")
	}
	tests := map[string]struct {
		name, bind, advertise string
		want                  string // "" = an error
	}{
		"advertised with a port": {"x", "10.0.0.1", "nat.example:9999", "nat.example:9999"},
		"advertised":             {"x", "10.0.0.1", "192.0.2.1", "192.0.2.1:8890"},
		"bound":                  {"x", "10.0.0.1", "", "10.0.0.1:8890"},
		"bound to all":           {"sp-1", "0.0.0.0", "", "sp-1:8890"},
		"by name":                {"sp-1", "", "", "sp-1:8890"},
		"a name of loopback":     {"debian", "", "", ""},
		"a name nobody knows":    {"nowhere", "", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := Node{Name: tt.name, Bind: tt.bind, Advertise: tt.advertise, NodePort: defaultNodePort, sources: map[string]string{}}
			if tt.bind != "" {
				n.sources["bind"] = "--bind"
			}
			got, err := n.AdvertiseNode(lookup)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}
