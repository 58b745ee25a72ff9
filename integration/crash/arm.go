package crash

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/syscollective/saltpeter/integration/rig"
)

// pointedCluster lays out a cluster whose programs have crash points; several nodes know each other from the start.
func pointedCluster(dir string, bin rig.Binaries, nodes int, jobs []*rig.Job, extra string) (*rig.Cluster, error) {
	c, err := rig.NewCluster(dir, bin, nodes, jobs, extra)
	if err != nil {
		return nil, err
	}
	for i, n := range c.Nodes {
		n.Env = plainEnv(n)
		if nodes > 1 {
			n.Env = append(n.Env, "SP_CLUSTER_ID=00000000-0000-4000-9000-000000000000", "SP_NODE_ID="+nodeID(i), "SP_PEERS="+peers(c))
		}
	}
	c.Wrapper = filepath.Join(c.Dir, "wrapper.sh")
	if err := os.WriteFile(c.Wrapper, []byte(shimText(c)), 0o755); err != nil {
		return nil, err
	}
	return c, c.WriteConfig()
}

// plainEnv is what a node of no static cluster needs.
func plainEnv(n *rig.Node) []string {
	return []string{"SP_CRASHLOG=" + crashLog(n), "SP_CRASHARM=" + armFile(n)}
}

func nodeID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1) }

func crashLog(n *rig.Node) string      { return filepath.Join(n.C.Dir, n.Name+".crash") }
func armFile(n *rig.Node) string       { return filepath.Join(n.C.Dir, n.Name+".arm") }
func wrapperArm(c *rig.Cluster) string { return filepath.Join(c.Dir, "wrapper.arm") }
func clockFile(c *rig.Cluster) string  { return filepath.Join(c.Dir, "clock") }
func armedLog(c *rig.Cluster) string   { return filepath.Join(c.Dir, "wrapper.armed") }
func wrapperLog(c *rig.Cluster) string { return filepath.Join(c.Dir, "wrapper.crash") }

// collect reads record and ledgers, and which wrappers were to be killed.
func collect(ctx context.Context, c *rig.Cluster, h *rig.History, end *rig.Span) (rig.Evidence, error) {
	e, err := c.Collect(ctx, h, end)
	if err == nil {
		e.Crashed, err = readArmed(armedLog(c))
	}
	return e, err
}

// shimText is what stands for the wrapper: it sets the point that lies there in the first wrapper that finds it.
func shimText(c *rig.Cluster) string {
	return fmt.Sprintf(`#!/bin/sh
if [ -e %[1]s ] && mv %[1]s %[1]s.$$ 2>/dev/null; then
  SP_CRASHPOINT=$(cat %[1]s.$$) SP_CRASHLOG=%[2]s
  export SP_CRASHPOINT SP_CRASHLOG
  echo "$SP_CRASHPOINT $*" >> %[3]s
fi
exec %[4]s "$@"
`, wrapperArm(c), wrapperLog(c), armedLog(c), c.Bin.Wrapper)
}

func peers(c *rig.Cluster) string {
	var list []string
	for i, n := range c.Nodes {
		list = append(list, nodeID(i)+"="+n.Addr+":8890")
	}
	return strings.Join(list, ",")
}

// armPoint sets a point in the running process.
func armPoint(n *rig.Node, point string) error {
	if err := os.WriteFile(armFile(n), []byte(point+"\n"), 0o644); err != nil {
		return err
	}
	return n.Signal(syscall.SIGUSR1)
}

// hit is one line of a crash log.
type hit struct {
	point, action string
	pid           int
}

// hits reads a crash log; there is none before the first hit.
func hits(path string) []hit {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []hit
	for text := range bytes.Lines(b) {
		var h hit
		var n int
		if k, _ := fmt.Sscanf(string(text), "%s %d %s %d\n", &h.point, &n, &h.action, &h.pid); k == 4 {
			out = append(out, h)
		}
	}
	return out
}

// readArmed gives the launches and machines of wrappers that were to be killed.
func readArmed(path string) (map[rig.Key]bool, error) {
	out := make(map[rig.Key]bool)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return out, nil
	}
	for text := range strings.Lines(string(b)) {
		f := strings.Fields(text)
		if len(f) == 0 || !strings.HasSuffix(f[0], ":kill") {
			continue
		}
		var k rig.Key
		for i := 1; i+1 < len(f); i++ {
			switch f[i] {
			case "--id":
				k.Instance = f[i+1]
			case "--machine":
				k.Machine = f[i+1]
			}
		}
		out[k] = true
	}
	return out, err
}
