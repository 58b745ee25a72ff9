package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// lagLimit is how many entries a member may be behind before it is marked: above it the cluster does not count as healthy.
const lagLimit = 256

// clockLimit is how far a member's clock may be off before it is marked, in milliseconds.
const clockLimit = 1000

func (c *cli) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show the cluster, begin one, and change its members",
		Args:  c.noCommand,
		RunE:  c.asking(c.clusterStatus),
	}
	var force bool
	remove := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the cluster, named by name or id", Args: exactly("NODE"),
		RunE: c.asking(func(ctx context.Context, cl *client.Client, args []string) error {
			got, err := cl.RemoveMember(ctx, args[0], force)
			return c.gone(got, err)
		}),
	}
	leave := &cobra.Command{
		Use: "leave", Short: "Take the node that is asked out of the cluster", Args: exactly(),
		RunE: c.asking(func(ctx context.Context, cl *client.Client, _ []string) error {
			got, err := cl.LeaveCluster(ctx, force)
			return c.gone(got, err)
		}),
	}
	for _, sub := range []*cobra.Command{remove, leave} {
		sub.Flags().BoolVar(&force, "force", false, "also if no node may fail afterwards; a majority always remains")
	}
	cmd.AddCommand(&cobra.Command{
		Use: "status", Short: "Show how the members are; the exit code is 1 while something is wrong", Args: exactly(), RunE: c.asking(c.clusterStatus),
	}, &cobra.Command{
		Use: "members", Short: "List the members", Args: exactly(), RunE: c.asking(c.clusterMembers),
	}, &cobra.Command{
		Use: "health", Short: "Check all members; the exit code is 1 if a check fails", Args: exactly(), RunE: c.asking(c.clusterHealth),
	}, &cobra.Command{
		Use: "init", Short: "Make the node that is asked the first of a cluster: once, on one node", Args: exactly(), RunE: c.asking(c.clusterInit),
	}, &cobra.Command{
		Use: "transfer-leader [NODE]", Short: "Hand leadership to a node, or to any that can take it", Args: between(0, "NODE"), RunE: c.asking(c.transferLeader),
	}, remove, leave, c.recoverCommand())
	return cmd
}

// asking makes a command of what asks a node and answers.
func (c *cli) asking(f func(ctx context.Context, cl *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := c.connect()
		if err != nil {
			return err
		}
		ctx, cancel := c.within(cmd.Context())
		defer cancel()
		return f(ctx, cl, args)
	}
}

func (c *cli) clusterStatus(ctx context.Context, cl *client.Client, _ []string) error {
	answer, err := cl.Cluster(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		err = c.printJSON(answer.Raw)
	} else {
		err = c.showCluster(&answer.Value)
	}
	if err == nil && !answer.Value.Healthy {
		return exitError(exitFailed)
	}
	return err
}

func (c *cli) showCluster(cl *api.Cluster) error {
	health := c.paint(green, "HEALTHY")
	if !cl.Healthy {
		health = c.paint(red, "NOT HEALTHY")
	}
	leader := "no leader"
	if cl.Leader != "" {
		leader = "leader " + printable(cl.Leader)
		if cl.LedMillis != nil {
			leader += " for " + round(time.Duration(*cl.LedMillis)*time.Millisecond)
		}
		leader += fmt.Sprintf(", term %d", cl.Term)
	}
	id := cl.ID
	if id == "" {
		id = "none"
	}
	err := c.print("Cluster   %s (%s) · %s · can lose %s        %s\n", printable(id), plural(cl.Voters, "voter"), health, plural(cl.CanLose, "node"), leader)
	if err != nil {
		return err
	}
	if len(cl.Members) > 0 {
		t := &table{head: []string{"NODE", "ROLE", "VOTER", "ADDRESS", "VERSION", "APPLIED", "LAG", "CONTACT", "CLOCK", "DISK", "WRAPPERS"}}
		lead := leaderOf(cl)
		for i := range cl.Members {
			t.row(memberRow(&cl.Members[i], lead)...)
		}
		if err := c.show(t); err != nil {
			return err
		}
	}
	for _, remark := range remarks(cl) {
		if err := c.print("%s\n", c.paint(yellow, "! "+printable(remark))); err != nil {
			return err
		}
	}
	if cl.Schedules != nil {
		return c.print("%s\n", printable(c.scheduleLine(cl.Schedules)))
	}
	return nil
}

// memberRow shows a member; * is the node that answers, ! what differs from the leader or is beyond its limit.
func memberRow(m, lead *api.ClusterMember) []any {
	name, version, clock := m.Name, cell{text: m.Version}, cell{text: clockText(m.ClockMillis)}
	if m.Self {
		name += "*"
	}
	if otherVersion(m, lead) {
		version = cell{m.Version + " !", yellow}
	}
	if clockOff(m) {
		clock = cell{clock.text + " !", yellow}
	}
	return []any{name, role(m), yes(m.Voter), m.Address, version, applied(m.Applied), millis(m.Lag, "%d"), millis(m.ContactMillis, "%dms"), clock,
		count(m.DiskUsed, "%"), count(m.Wrappers, "")}
}

func leaderOf(cl *api.Cluster) *api.ClusterMember {
	for i := range cl.Members {
		if cl.Members[i].Leader {
			return &cl.Members[i]
		}
	}
	return nil
}

func otherVersion(m, lead *api.ClusterMember) bool {
	return lead != nil && m.Version != "" && m.Version != lead.Version
}

func clockOff(m *api.ClusterMember) bool {
	return m.ClockMillis != nil && max(*m.ClockMillis, -*m.ClockMillis) > clockLimit
}

// clockText shows an offset in ms, from a second on in seconds.
func clockText(ms *int64) string {
	if ms != nil && max(*ms, -*ms) >= 1000 {
		return fmt.Sprintf("%+.1fs", float64(*ms)/1000)
	}
	return millis(ms, "%+dms")
}

func count(n *int, unit string) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n) + unit
}

// scheduleLine tells in one line how the cluster's jobs are.
func (c *cli) scheduleLine(s *api.Schedules) string {
	line := "Schedules " + plural(s.Jobs, "job")
	if s.Next != nil {
		in := "now"
		if d := s.Next.Time().Sub(c.now()); d > 0 {
			in = "in " + round(d)
		}
		line += fmt.Sprintf(", next %s (%s)", in, s.NextJob)
	}
	if s.LagMillis != nil {
		line += fmt.Sprintf(" · firing lag p99 %d ms", *s.LagMillis)
	}
	return line + fmt.Sprintf(" · running %d · missed 24h %d", s.Running, s.Missed)
}

func role(m *api.ClusterMember) cell {
	switch m.State {
	case "leader":
		return cell{m.State, green}
	case "follower":
		return cell{m.State, plain}
	default:
		return cell{m.State, red}
	}
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func applied(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// remarks tells what somebody should look at.
func remarks(cl *api.Cluster) []string {
	var out []string
	if cl.Forming != "" {
		out = append(out, cl.Forming)
	}
	leader := leaderOf(cl)
	for i := range cl.Members {
		m := &cl.Members[i]
		var why []string
		switch {
		case m.State == "unreachable":
			why = append(why, "does not answer"+gossiped(m))
		case !m.Voter:
			why = append(why, "is catching up and does not vote yet")
		case m.Lag != nil && *m.Lag > lagLimit:
			why = append(why, fmt.Sprintf("is catching up (%d entries behind)", *m.Lag))
		}
		if otherVersion(m, leader) {
			why = append(why, "version differs from the leader's")
		}
		if leader != nil && m.ConfigDigest != "" && m.ConfigDigest != leader.ConfigDigest {
			why = append(why, "configuration files differ from the leader's")
		}
		if clockOff(m) {
			way := "ahead"
			if *m.ClockMillis < 0 {
				way = "behind"
			}
			why = append(why, fmt.Sprintf("clock is %s %s (limit 1s)", (time.Duration(*m.ClockMillis)*time.Millisecond).Abs(), way))
		}
		if len(why) > 0 {
			out = append(out, m.Name+": "+strings.Join(why, "; ")+" — run: spctl cluster health")
		}
	}
	return out
}

// gossiped tells what gossip says of a member that does not answer.
func gossiped(m *api.ClusterMember) string {
	switch {
	case m.Seen == "":
		return ""
	case m.Seen == "alive" && m.SeenAddress != m.Address:
		return " at " + m.Address + "; gossip sees it at " + m.SeenAddress + ": a changed address needs cluster remove, then a new data directory"
	default:
		return " (gossip: " + m.Seen + ")"
	}
}

func (c *cli) clusterMembers(ctx context.Context, cl *client.Client, _ []string) error {
	answer, err := cl.Cluster(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printValue(answer.Value.Members)
	}
	t := &table{head: []string{"NODE", "ID", "ADDRESS", "VOTER", "LEADER"}}
	for i := range answer.Value.Members {
		m := &answer.Value.Members[i]
		t.row(m.Name, m.ID, m.Address, yes(m.Voter), yes(m.Leader))
	}
	return c.show(t)
}

// clusterInit waits until the node leads what it has begun: it begins again in between.
func (c *cli) clusterInit(ctx context.Context, cl *client.Client, _ []string) error {
	answer, err := cl.InitCluster(ctx)
	if err != nil {
		return err
	}
	begun := answer.Value
	for {
		now, err := cl.Cluster(ctx)
		if err == nil && now.Value.ID == begun.ID && now.Value.Forming == "" && now.Value.Leader != "" && hasAddress(&now.Value, begun.Address) {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return saltpeter.Errorf(saltpeter.CodeTimeout, "cluster %s is begun, but %s does not lead it yet", begun.ID, begun.Node).WithHint("see: spctl cluster status, and the node's log")
		}
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	return c.print("cluster %s is begun on %s\nto add a node, give it the same key file and start it with: --join %s\n", begun.ID, printable(begun.Node), begun.Address)
}

// hasAddress says whether the first node is known by its address already: the cluster of a node that was alone had none.
func hasAddress(cl *api.Cluster, addr string) bool {
	for i := range cl.Members {
		if cl.Members[i].Address == addr {
			return true
		}
	}
	return false
}

func (c *cli) transferLeader(ctx context.Context, cl *client.Client, args []string) error {
	to := ""
	if len(args) > 0 {
		to = args[0]
	}
	answer, err := cl.TransferLeader(ctx, to)
	if err != nil {
		return err
	}
	t := answer.Value
	switch {
	case c.json():
		return c.printJSON(answer.Raw)
	case t.From == t.To:
		return c.print("%s leads already (term %d)\n", printable(t.To), t.Term)
	}
	return c.print("leadership %s → %s in %d ms (term %d)\n", printable(t.From), printable(t.To), t.Millis, t.Term)
}

func (c *cli) gone(answer client.Answer[api.Removed], err error) error {
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(answer.Raw)
	}
	return c.print("%s is removed; %s left\n", printable(answer.Value.Name), plural(answer.Value.Voters, "voter"))
}

func (c *cli) clusterHealth(ctx context.Context, cl *client.Client, _ []string) error {
	answer, err := cl.Health(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		err = c.printJSON(answer.Raw)
	} else {
		err = c.showHealth(&answer.Value)
	}
	if err == nil && !answer.Value.Healthy {
		return exitError(exitFailed)
	}
	return err
}

func (c *cli) showHealth(h *api.Health) error {
	colors := map[string]string{api.LevelOK: green, api.LevelWarn: yellow, api.LevelFail: red}
	t := &table{head: []string{"LEVEL", "CHECK", "NODE", "FOUND"}}
	for i := range h.Checks {
		k := &h.Checks[i]
		found := k.Text
		if k.Hint != "" {
			found += " — " + k.Hint
		}
		t.row(cell{k.Level, colors[k.Level]}, k.Check, k.Node, found)
	}
	return c.show(t)
}
