package fsm

import (
	"cmp"
	"slices"

	"github.com/syscollective/saltpeter"
)

// keepRevoked is how many revoked tokens are remembered, newest first: so long a PutToken that comes again does not bring
// one back, and its holder is told why it is refused.
const keepRevoked = 250

// maxKeyID bounds the id of a key, in bytes.
const maxKeyID = 64

func (c *PutToken) apply(a *applier) any {
	t := c.Token
	if old, ok := a.s.tokens.Get(string(t.Hash[:])); ok {
		if old.Name != t.Name || old.RevokedMillis != 0 {
			return refuse(saltpeter.CodeConflict, "this token was made before, as %q, and may not come again", old.Name)
		}
		return TokenTaken{Token: old}
	}
	if err := saltpeter.CheckTokenName(t.Name); err != nil {
		return refuse(saltpeter.CodeInvalid, "%v", err)
	}
	switch {
	case !t.Role.Valid():
		return refuse(saltpeter.CodeInvalid, "there is no role %d", t.Role)
	case t.Hash == saltpeter.Digest{}:
		return refuse(saltpeter.CodeInvalid, "a token needs a hash")
	case t.ExpiresMillis != 0 && t.ExpiresMillis <= a.env.Millis, t.ExpiresMillis > maxMillis:
		return refuse(saltpeter.CodeInvalid, "the token would expire before it begins, or after the year 9999")
	}
	if old, ok := a.s.tokenNamed(t.Name); ok {
		r := refuse(saltpeter.CodeConflict, "there is a token %q already (%s)", t.Name, old.Role)
		r.Hint = "revoke it first, or take another name"
		return r
	}
	if a.s.tokens.Len()-a.s.revokedTokens() >= saltpeter.MaxTokens {
		r := refuse(saltpeter.CodeTooMany, "there are %d tokens", saltpeter.MaxTokens)
		r.Hint = "revoke those that are not used: spctl token list"
		return r
	}
	t.Actor, t.Origin, t.CreatedMillis, t.RevokedMillis, t.RevokedBy = eventText(a.env.Actor), eventText(a.env.Origin), a.env.Millis, 0, ""
	a.s.tokens.Set(string(t.Hash[:]), t)
	a.event(saltpeter.Event{Type: saltpeter.EventTokenCreated, Actor: a.env.Actor, Text: t.Name + " (" + t.Role.String() + ")"})
	return TokenTaken{Token: t}
}

func (c *RevokeToken) apply(a *applier) any {
	t, ok := a.s.tokens.Get(string(c.Hash[:]))
	if !ok {
		return refuse(saltpeter.CodeNotFound, "there is no such token")
	}
	if t.RevokedMillis != 0 {
		return TokenTaken{Token: t}
	}
	t.RevokedMillis, t.RevokedBy = a.env.Millis, eventText(a.env.Actor)
	a.s.tokens.Set(string(c.Hash[:]), t)
	a.s.forgetRevoked(c.Hash)
	a.event(saltpeter.Event{Type: saltpeter.EventTokenRevoked, Actor: a.env.Actor, Text: t.Name + " (" + t.Role.String() + ")"})
	return TokenTaken{Token: t}
}

// tokenNamed gives the token of a name that is not revoked. There are at most a thousand.
func (s *state) tokenNamed(name string) (found saltpeter.Token, ok bool) {
	s.tokens.Scan(func(_ string, t saltpeter.Token) bool {
		if t.Name == name && t.RevokedMillis == 0 {
			found, ok = t, true
		}
		return !ok
	})
	return found, ok
}

func (s *state) revokedTokens() int {
	n := 0
	s.tokens.Scan(func(_ string, t saltpeter.Token) bool {
		n += btoi(t.RevokedMillis != 0)
		return true
	})
	return n
}

// forgetRevoked forgets the token that was revoked the longest ago when too many are remembered; never the one just revoked,
// whose command may come again.
func (s *state) forgetRevoked(just saltpeter.Digest) {
	if s.revokedTokens() <= keepRevoked {
		return
	}
	var oldest saltpeter.Token
	s.tokens.Scan(func(_ string, t saltpeter.Token) bool {
		if t.RevokedMillis != 0 && t.Hash != just && (oldest.RevokedMillis == 0 || t.RevokedMillis < oldest.RevokedMillis) {
			oldest = t
		}
		return true
	})
	s.tokens.Delete(string(oldest.Hash[:]))
}

func (c *SetLaunchKey) apply(a *applier) any {
	if r := a.stale(); r != nil {
		return r
	}
	if c.Key == "" || len(c.Key) > maxKeyID {
		return refuse(saltpeter.CodeInvalid, "%q is not the id of a key", c.Key)
	}
	s := a.s
	if newest(s.launchKeys) == c.Key {
		return Done{}
	}
	s.launchKeys = s.neededKeys()
	if newest(s.launchKeys) != c.Key {
		s.launchKeys = append(s.launchKeys, saltpeter.LaunchKey{From: s.lastLaunch + 1, Key: c.Key})
	}
	return Done{}
}

// newest gives the key under which launches are made now.
func newest(list []saltpeter.LaunchKey) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].Key
}

// neededKeys gives a copy of the series of keys without those under which nothing was launched that is still going on.
func (s *state) neededKeys() []saltpeter.LaunchKey {
	used := make(map[int]bool)
	s.scanLiving(func(r *run) {
		for _, b := range r.Batches {
			used[s.launchKeyAt(b.Launch)] = true
		}
	})
	var list []saltpeter.LaunchKey
	for i, k := range s.launchKeys {
		if used[i] {
			list = append(list, k)
		}
	}
	return list
}

// scanLiving gives the runs of which wrappers may still have something to tell, each at least once: those that are unfinished,
// and those with a machine that came back.
func (s *state) scanLiving(f func(*run)) {
	each := func(num uint64, _ struct{}) bool {
		if r, ok := s.runs.Get(num); ok {
			f(r)
		}
		return true
	}
	s.unfinished.Scan(each)
	s.backs.Scan(each)
}

// launchKeyAt gives the position of a launch's key in the series, -1 where none was named.
func (s *state) launchKeyAt(id saltpeter.LaunchID) int {
	i, found := slices.BinarySearchFunc(s.launchKeys, id, func(k saltpeter.LaunchKey, id saltpeter.LaunchID) int { return cmp.Compare(k.From, id) })
	if found {
		return i
	}
	return i - 1
}
