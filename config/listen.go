package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/syscollective/saltpeter"
)

// Listen says where a node listens, each as host:port.
type Listen struct {
	API     []string // loopback first; one address that covers loopback stands alone
	Wrapper string
	Node    string
	Gossip  string
	Socket  string // path
}

// Effective works out where a node listens. A flag, variable or key of the node's file wins over the cluster's files, and the
// narrower of a node's settings over the wider: --websocket-host over --bind. The API is on loopback always, which an address of
// 127/8 in --bind moves, and on other addresses only with -a or api_ws. The error says which two ports collide.
func Effective(n Node, s saltpeter.Settings) (Listen, error) {
	apiPort, wrapperPort := s.APIPort, s.WrapperPort
	if n.given("port") {
		apiPort = n.APIPort
	}
	if n.given("websocket-port") {
		wrapperPort = n.WrapperPort
	}
	bind := ""
	if n.given("bind") {
		bind = listenAddress(n.Bind)
	}
	wrapper := s.WrapperBind
	if bind != "" {
		wrapper = bind
	}
	if n.given("websocket-host") {
		wrapper = n.WebsocketHost
	}
	others := bind
	if others == "" {
		others = "0.0.0.0"
	}
	l := Listen{
		API:     apiAddresses(n, s, bind, apiPort),
		Wrapper: hostPort(listenAddress(wrapper), wrapperPort),
		Node:    hostPort(others, n.NodePort),
		Gossip:  hostPort(others, n.GossipPort),
		Socket:  n.Socket,
	}
	return l, l.check()
}

func apiAddresses(n Node, s saltpeter.Settings, bind string, port int) []string {
	loopback := "127.0.0.1"
	if isLoopback(bind) {
		loopback = bind
	}
	everywhere := s.APIWS
	if n.given("api") {
		everywhere = n.API
	}
	if !everywhere {
		return []string{hostPort(loopback, port)}
	}
	other := listenAddress(s.APIBind)
	if bind != "" {
		other = bind
	}
	switch a, err := netip.ParseAddr(other); {
	case err == nil && a.IsUnspecified():
		return []string{hostPort(other, port)}
	case other == loopback:
		return []string{hostPort(loopback, port)}
	}
	return []string{hostPort(loopback, port), hostPort(other, port)}
}

// listenAddress brings an address into its usual form; it has been checked before.
func listenAddress(text string) string {
	addr, err := parseAddress(text)
	if err != nil {
		return text
	}
	return addr
}

func isLoopback(addr string) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && a.IsLoopback()
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// check finds two listeners with one port on addresses that meet.
func (l Listen) check() error {
	type listener struct{ name, addr string }
	all := []listener{{"wrappers", l.Wrapper}, {"nodes", l.Node}, {"gossip", l.Gossip}}
	for _, a := range l.API {
		all = append(all, listener{"API", a})
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.name != b.name && meet(a.addr, b.addr) {
				return saltpeter.Errorf(saltpeter.CodeConfig, "%s and %s would both listen on %s", a.name, b.name, a.addr).
					WithHint("give each a port of its own: -p API, -w wrappers, --node-port nodes, --gossip-port gossip")
			}
		}
	}
	return nil
}

func meet(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB {
		return false
	}
	wild := []string{"0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(wild, hostA) || slices.Contains(wild, hostB)
}

// Override puts what the node's command line, variables or file say in the place of the files' settings, in the revision that
// this node makes.
func (n Node) Override(s saltpeter.Settings) saltpeter.Settings {
	if n.given("logdir") {
		s.LogDir = n.LogDir
	}
	if n.given("elasticsearch") {
		s.Elasticsearch = n.Elasticsearch
	}
	if n.given("opensearch") {
		s.Opensearch = n.Opensearch
	}
	if n.given("index") {
		s.ElasticsearchIndex, s.OpensearchIndex = n.Index, n.Index
	}
	return s
}
