package saltpeter

import (
	"fmt"
	"strings"
)

// Role says what a holder of a token may do. Each role may do what those below it may.
type Role uint8

// The roles. The numbers are in snapshots and log entries: append only.
const (
	RoleViewer   Role = iota + 1 // reads
	RoleOperator                 // starts, kills, pauses, sets maintenance
	RoleAdmin                    // everything: members, configuration, tokens, snapshots
)

var roles = [...]string{RoleViewer: "viewer", RoleOperator: "operator", RoleAdmin: "admin"}

// String gives the word for people, the API and the documents; "nobody" for none.
func (r Role) String() string {
	switch {
	case r == 0:
		return "nobody"
	case int(r) < len(roles):
		return roles[r]
	default:
		return fmt.Sprintf("role %d", uint8(r))
	}
}

// Valid reports whether it is one of the roles.
func (r Role) Valid() bool { return r >= RoleViewer && r <= RoleAdmin }

// ParseRole is the inverse of String.
func ParseRole(word string) (Role, bool) {
	for i, w := range roles {
		if i > 0 && w == word {
			return Role(i), true
		}
	}
	return 0, false
}

// Bounds of tokens.
const (
	MaxTokens    = 1000 // that are not revoked
	MaxTokenName = 64   // bytes
)

// Token is a bearer token of the API as the record knows it: without the secret.
type Token struct {
	Name          string `cbor:"1,keyasint"`
	Role          Role   `cbor:"2,keyasint"`
	Hash          Digest `cbor:"3,keyasint"` // SHA-256 of the secret
	Actor         string `cbor:"4,keyasint,omitempty"`
	Origin        string `cbor:"5,keyasint,omitempty"`
	CreatedMillis int64  `cbor:"6,keyasint"`
	ExpiresMillis int64  `cbor:"7,keyasint,omitempty"` // 0 = never
	RevokedMillis int64  `cbor:"8,keyasint,omitempty"` // 0 = not revoked
	RevokedBy     string `cbor:"9,keyasint,omitempty"`
}

// Good reports whether the token opens anything at millis.
func (t *Token) Good(millis int64) bool {
	return t.RevokedMillis == 0 && (t.ExpiresMillis == 0 || millis < t.ExpiresMillis)
}

// CheckTokenName says what is wrong with a name, or nil: letters, digits and . _ - @, at most MaxTokenName bytes.
func CheckTokenName(name string) error {
	odd := strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-@", c)
	})
	if name == "" || len(name) > MaxTokenName || odd {
		return fmt.Errorf("%q can't name a token (letters, digits, . _ - @, at most %d)", name, MaxTokenName)
	}
	return nil
}

// LaunchKey says under which of the cluster's keys launches are made, from a launch id on.
type LaunchKey struct {
	_    struct{} `cbor:",toarray"`
	From LaunchID
	Key  string // id of the key, which does not give it away
}
