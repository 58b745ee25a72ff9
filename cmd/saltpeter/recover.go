package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/config"
)

// recoverNode makes the stopped node of this host the only member of its cluster: for when a majority is lost for good.
func recoverNode(args []string) int {
	fs := pflag.NewFlagSet("saltpeter recover", pflag.ContinueOnError)
	config.AddFlags(fs)
	yes := fs.BoolP("yes", "y", false, "do not ask")
	dry := fs.Bool("dry-run", false, "tell what would be done, change nothing")
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, "saltpeter recover makes the stopped node of this host the only member of its cluster, when most members are lost for good.\n"+
			"It takes the flags that the node is started with; --data-dir matters.\n\n%s", fs.FlagUsages())
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(os.Stderr, "error: %v\n  see: saltpeter recover --help\n", err)
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "error: unexpected argument %q\n  see: saltpeter recover --help\n", fs.Arg(0))
		return exitUsage
	}
	node, problems := config.ReadNode(fs, os.Environ())
	if report(problems) {
		return exitUsage
	}
	if err := askAndRecover(node, *yes, *dry); err != nil {
		explain(err)
		return exitFailed
	}
	return 0
}

func askAndRecover(node config.Node, yes, dry bool) error {
	r, err := app.InspectLost(node)
	if err != nil {
		return err
	}
	if r.Pending && r.Alone {
		fmt.Println("This node is recovered already: start it.")
		return nil
	}
	fmt.Printf("Cluster %s as node %s knows it: %d members, log up to index %d (term %d).\n", r.ClusterID, r.NodeID, len(r.Members), r.LastIndex, r.LastTerm)
	for _, m := range r.Members {
		who := "lost: it must never start again with its old data directory"
		if m.Self {
			who = "this node: the only member afterwards"
		}
		fmt.Printf("  %s  %s  %s\n", m.ID, m.Addr, who)
	}
	fmt.Print("What is in this node's log counts, also what no majority had; what only the others had is LOST.\n" +
		"At its next start a new epoch begins: whatever is unfinished ends as 253 (restored), ticks up to then are decided,\n" +
		"maintenance is on. Others join with empty data directories.\n")
	switch {
	case dry:
		fmt.Println("Nothing was changed (--dry-run).")
		return nil
	case !yes:
		if err := confirm(r.ClusterID); err != nil {
			return err
		}
	}
	if err := app.Recover(node); err != nil {
		return err
	}
	fmt.Print("Recovered. Start this node, look around, then: spctl maintenance off --all\n")
	return nil
}

// confirm has a person type the cluster's UUID.
func confirm(id string) error {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err != nil {
		return saltpeter.Errorf(saltpeter.CodeConflict, "this is not done without being asked for twice").WithHint("there is no terminal to ask on: give -y")
	}
	fmt.Printf("Type the cluster's UUID to go on: ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" || strings.TrimSpace(line) != id {
		return saltpeter.Errorf(saltpeter.CodeConflict, "that is not the cluster's UUID: nothing was changed")
	}
	return nil
}
