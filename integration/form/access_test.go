package form

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"strings"
	"syscall"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
)

// over gives a client of node i's port with a token.
func (r *rig) over(i int, token string) *client.Client {
	r.t.Helper()
	c, err := client.New(client.Config{Token: token, Addrs: []client.Addr{{URL: fmt.Sprintf("http://%s.%d:8888", r.subnet, i)}}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// guarded begins a cluster of three that asks for tokens.
func guarded(t *testing.T) *rig {
	r := newRig(t)
	path := r.dir + "/config/jobs.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "  auth: none\n", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, open := r.gate()
	open()
	for i := 1; i <= 3; i++ {
		r.start(i, r.addr(1), r.addr(2), r.addr(3))
	}
	r.until("init", func(ctx context.Context) (bool, error) {
		_, err := r.nodes[1].InitCluster(ctx)
		return err == nil, err
	})
	return r
}

func (r *rig) token(i int, name, role string) string {
	r.t.Helper()
	made, err := r.nodes[i].CreateToken(r.t.Context(), name, role, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return made.Value.Secret
}

// TestTokensOnEveryNode: a token is good on every node as soon as it is made, and on none once it is revoked; who wrote through
// a follower stands in the record; a restart keeps tokens; a node that is cut off changes nothing for them.
func TestTokensOnEveryNode(t *testing.T) {
	r := guarded(t)
	leader := r.healthy(2)
	r.firstTick()
	follower := leader%3 + 1
	for round := range 15 {
		name := fmt.Sprint("round-", round)
		secret := r.token(round%3+1, name, "viewer")
		for i := 1; i <= 3; i++ {
			if who, err := r.over(i, secret).Whoami(t.Context()); err != nil || who.Value.Name != name || who.Value.Role != "viewer" {
				t.Fatalf("round %d, n%d: %+v, %v", round, i, who.Value, err)
			}
		}
		if _, err := r.nodes[(round+1)%3+1].RevokeToken(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 3; i++ {
			if who, err := r.over(i, secret).Whoami(t.Context()); saltpeter.CodeOf(err) != saltpeter.CodeUnauthenticated {
				t.Fatalf("round %d, n%d: a revoked token is %+v, %v", round, i, who.Value, err)
			}
		}
	}
	viewer, operator := r.token(1, "eye", "viewer"), r.token(1, "ci", "operator")
	if _, err := r.over(follower, viewer).Start(t.Context(), client.Start{Job: "long"}); saltpeter.CodeOf(err) != saltpeter.CodeForbidden {
		t.Errorf("a viewer's start: %v", err)
	}
	r.actors(leader, follower, operator)
	r.cutOff(operator)
}

// actors looks at who stands in the record for what came through a follower.
func (r *rig) actors(leader, follower int, token string) {
	r.t.Helper()
	me, err := user.Current()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, test := range []struct {
		through          *client.Client
		name, where, job string
	}{
		{r.over(follower, token), "ci", "127.", "long"}, {r.nodes[follower].Client, me.Username, "unix socket", "gate"},
	} {
		run, err := test.through.Start(r.t.Context(), client.Start{Job: test.job, Key: test.job})
		if err != nil {
			r.t.Fatal(err)
		}
		got, err := r.nodes[leader].Run(r.t.Context(), run.Value.ID)
		if err != nil || got.Value.Actor != test.name || !strings.HasPrefix(got.Value.Origin, test.where) {
			r.t.Errorf("%s: by %q from %q, %v", test.name, got.Value.Actor, got.Value.Origin, err)
		}
	}
}

// cutOff leaves one node without the others, and brings all back.
func (r *rig) cutOff(token string) {
	r.t.Helper()
	r.stop(2, syscall.SIGTERM)
	r.stop(3, syscall.SIGTERM)
	alone := r.over(1, token)
	r.until("a node that knows of no leader", func(ctx context.Context) (bool, error) {
		got, err := alone.Status(ctx)
		return err == nil && got.Value.Cluster.Leader == "", err
	})
	if _, err := alone.Runs(r.t.Context(), url.Values{"consistency": {"stale"}}, 1); err != nil {
		r.t.Errorf("a stale read: %v", err)
	}
	if _, err := alone.Start(r.t.Context(), client.Start{Job: "long"}); saltpeter.CodeOf(err) != saltpeter.CodeNoLeader {
		r.t.Errorf("a write: %v", err)
	}
	for i := 2; i <= 3; i++ {
		r.start(i, r.addr(1))
	}
	r.healthy(3)
	if who, err := r.over(3, token).Whoami(r.t.Context()); err != nil || who.Value.Role != "operator" {
		r.t.Errorf("after a restart: %+v, %v", who.Value, err)
	}
}
