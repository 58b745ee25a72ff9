package api

import (
	"context"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"syscall"

	"github.com/syscollective/saltpeter"
)

// banner is what everybody sees while the API asks nobody for a token.
const banner = "auth: none is set: whoever reaches this port may start and kill everything"

type peerKey struct{}

// withPeer notes which user of this host opened a connection of the unix socket.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if sc, ok := conn.(syscall.Conn); ok && conn.LocalAddr().Network() == "unix" {
		if uid, ok := peerUID(sc); ok {
			return context.WithValue(ctx, peerKey{}, userName(uid))
		}
	}
	return ctx
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// identify says who asks and from where, for the record.
func identify(r *http.Request, origin Origin) (name, from string) {
	if origin != OriginSocket {
		return "anonymous", r.RemoteAddr
	}
	if name, ok := r.Context().Value(peerKey{}).(string); ok {
		return name, "unix socket"
	}
	return "unknown user", "unix socket"
}

// admit lets a request pass or says what it lacks. The settings that decide are those in force, as this node knows
// them: access must not depend on there being a leader.
func (c *call) admit(rt route, origin Origin) error {
	free := origin == OriginSocket || rt.access == accessOpen
	v, err := c.s.node.Read(c.r.Context(), true)
	if err != nil && !free {
		return err
	}
	if err == nil {
		set := v.Settings()
		if set.Auth == "none" {
			c.w.Header().Set("X-Saltpeter-Auth", "none")
			return nil
		}
		free = free || set.APIRead == "open" && rt.access == accessRead
	}
	if free {
		return nil
	}
	if v.Revision().Number == 0 {
		// A node that has just started does not know yet what the settings say: nobody is let in, nobody is sent away.
		return saltpeter.Errorf(saltpeter.CodeUnavailable, "no configuration is in force on this node yet").
			WithHint("it is starting, or its files have errors: see spctl status and spctl config check on the node itself")
	}
	socket := c.s.socket
	if socket == "" {
		socket = "/run/saltpeter/admin.sock"
	}
	return saltpeter.Errorf(saltpeter.CodeUnauthenticated, "this address needs a token, and tokens come with the cluster").
		WithHint("use the unix socket on the node itself: SPCTL_ADDR=unix://%s (root and the group saltpeter), or set auth: none in saltpeter_config where everybody who reaches the port may do everything", socket)
}
