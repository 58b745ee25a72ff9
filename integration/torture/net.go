package main

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// network is a namespace with one node in it. It lives as long as its holder, which ends with this program: what it reads
// from then ends.
type network struct {
	holder *exec.Cmd
	hold   io.Closer
}

const bridge = "br0"

// address gives the address of a node's network.
func address(i int) string { return fmt.Sprintf("10.99.0.%d", i+1) }

// makeBridge makes what connects the nodes, in this program's own namespace.
func makeBridge() error {
	return commands("ip link set lo up", "ip link add "+bridge+" type bridge", "ip link set "+bridge+" up")
}

// makeNetwork makes one without a link.
func makeNetwork() (*network, error) {
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	hold, err := holder.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return &network{holder, hold}, nil
}

// connect gives the network its link.
func (n *network) connect(i int) error {
	pid, port := n.holder.Process.Pid, fmt.Sprintf("port%d", i+1)
	err := commands(
		fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", port, pid),
		fmt.Sprintf("ip link set %s master %s up", port, bridge),
	)
	if err != nil {
		return err
	}
	return n.inside("ip link set lo up", "ip addr add "+address(i)+"/24 dev eth0", "ip link set eth0 up",
		"nft add table inet torture",
		"nft add chain inet torture from { type filter hook input priority 0 ; }",
		"nft add chain inet torture to { type filter hook output priority 0 ; }")
}

// enter is what turns into a program in this network.
func (n *network) enter() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", n.holder.Process.Pid), "--"}
}

func (n *network) inside(lines ...string) error {
	for i := range lines {
		lines[i] = strings.Join(n.enter(), " ") + " " + lines[i]
	}
	return commands(lines...)
}

// cut drops what comes in, what goes out, or both.
func (n *network) cut(in, out bool) error {
	if in {
		if err := n.inside("nft add rule inet torture from iifname eth0 drop"); err != nil {
			return err
		}
	}
	if out {
		return n.inside("nft add rule inet torture to oifname eth0 drop")
	}
	return nil
}

func (n *network) heal() error {
	return n.inside("nft flush table inet torture")
}

func (n *network) remove() {
	_ = n.hold.Close()
	_ = n.holder.Wait() // it ends with its input
}

// commands runs commands whose words hold no blanks, up to the first that fails.
func commands(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
