package api

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/syscollective/saltpeter"
)

// A token's secret is "sp_" and 240 random bits in 48 letters and digits.
const (
	secretPrefix = "sp_"
	secretBytes  = 30
)

var secretText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newSecret draws a token's secret.
func newSecret() string {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: documented
	return secretPrefix + secretText.EncodeToString(b[:])
}

// IsSecret reports whether a text has the form of a token's secret.
func IsSecret(text string) bool {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	if !ok || len(rest) != secretText.EncodedLen(secretBytes) {
		return false
	}
	return !strings.ContainsFunc(rest, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '2' || c > '7') })
}

// bearer reads the Authorization header. given says whether there is one; an error says what is wrong with it.
func bearer(h http.Header) (hash saltpeter.Digest, given bool, err error) {
	lines := h.Values("Authorization")
	if len(lines) == 0 {
		return hash, false, nil
	}
	scheme, secret, _ := strings.Cut(strings.TrimSpace(lines[0]), " ")
	secret = strings.TrimSpace(secret)
	switch {
	case len(lines) > 1:
		return hash, true, badCredentials("there are %d Authorization headers", len(lines))
	case !strings.EqualFold(scheme, "Bearer"):
		return hash, true, badCredentials("the Authorization header is not of the scheme Bearer")
	case !IsSecret(secret):
		return hash, true, badCredentials("what the Authorization header holds is not a token: it begins with %s and has %d characters",
			secretPrefix, len(secretPrefix)+secretText.EncodedLen(secretBytes))
	}
	return saltpeter.DigestOf([]byte(secret)), true, nil
}

func badCredentials(format string, args ...any) *saltpeter.Error {
	return saltpeter.Errorf(saltpeter.CodeUnauthenticated, format, args...).WithHint("send: Authorization: Bearer sp_…")
}

// tokenOf finds a token. The record finds it by its hash, which tells nobody the secret; that it is the one is compared in
// constant time all the same.
func tokenOf(v View, hash saltpeter.Digest) (saltpeter.Token, bool) {
	t, ok := v.Token(hash)
	return t, ok && subtle.ConstantTimeCompare(t.Hash[:], hash[:]) == 1
}

// peer is the process at the other end of a unix socket.
type peer struct {
	uid    uint32
	groups []uint32
}

// trusted says whether a peer is admin by what it is: root, the user that this node runs as, a member of the group.
func (p *peer) trusted(group int) bool {
	return p.uid == 0 || int(p.uid) == os.Geteuid() || group > 0 && slices.Contains(p.groups, uint32(group))
}

func (p *peer) name() string {
	id := strconv.FormatUint(uint64(p.uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

type peerKey struct{}

// caller is what is known of who opened a connection of the unix socket.
type caller struct {
	name  string
	key   string // for the limits
	admin bool
}

// withPeer notes which user of this host opened a connection of the unix socket.
func (s *Server) withPeer(ctx context.Context, conn net.Conn) context.Context {
	sc, ok := conn.(syscall.Conn)
	if !ok || conn.LocalAddr().Network() != "unix" {
		return ctx
	}
	who := caller{name: "unknown user", key: "socket"}
	if p, ok := peerOf(sc); ok {
		who = caller{name: p.name(), key: "uid " + strconv.FormatUint(uint64(p.uid), 10), admin: p.trusted(s.group)}
	}
	return context.WithValue(ctx, peerKey{}, who)
}

// callerOf gives the caller of a request that came over the socket. Where nobody looked at the connection, whoever made
// the handler answers for it.
func callerOf(r *http.Request) caller {
	if who, ok := r.Context().Value(peerKey{}).(caller); ok {
		return who
	}
	return caller{name: "unknown user", key: "socket", admin: true}
}
