package config

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/syscollective/saltpeter"
)

// JoinAddresses gives where the nodes to join listen for nodes, each as host:port.
func (n *Node) JoinAddresses() []string {
	var out []string
	for _, addr := range n.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = hostPort(addr, defaultNodePort)
		}
		out = append(out, addr)
	}
	return out
}

// AdvertiseHost gives the host under which others reach this node, "" where only its name is left.
func (n *Node) AdvertiseHost() string {
	if n.Advertise != "" {
		if host, _, err := net.SplitHostPort(n.Advertise); err == nil {
			return host
		}
		return n.Advertise
	}
	if !n.given("bind") {
		return ""
	}
	if a, err := netip.ParseAddr(listenAddress(n.Bind)); err != nil || a.IsUnspecified() {
		return ""
	}
	return listenAddress(n.Bind)
}

// AdvertiseNode gives the host:port under which other nodes reach this node's port: what --advertise says, else --bind, else
// its name, which then must not lead other hosts to themselves.
func (n *Node) AdvertiseNode(lookup func(host string) ([]string, error)) (string, error) {
	if _, _, err := net.SplitHostPort(n.Advertise); err == nil {
		return n.Advertise, nil
	}
	if host := n.AdvertiseHost(); host != "" {
		return hostPort(host, n.NodePort), nil
	}
	hint := "give --advertise ADDRESS, or --bind ADDRESS"
	addrs, err := lookup(n.Name)
	if err != nil {
		return "", saltpeter.Errorf(saltpeter.CodeConfig, "other nodes can't reach this one by its name %s: %w", n.Name, err).WithHint("%s", hint)
	}
	for _, addr := range addrs {
		if isLoopback(addr) {
			return "", saltpeter.Errorf(saltpeter.CodeConfig, "other nodes can't reach this one by its name %s, which is %s", n.Name, addr).WithHint("%s", hint)
		}
	}
	if len(addrs) == 0 {
		return "", fmt.Errorf("look up %s: no address", n.Name)
	}
	return hostPort(n.Name, n.NodePort), nil
}
