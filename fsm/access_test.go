package fsm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

func putToken(w *world, name string, hash byte) any {
	return w.do(&PutToken{Token: saltpeter.Token{Name: name, Role: saltpeter.RoleOperator, Hash: saltpeter.Digest{hash}}})
}

func TestTokensAreMadeOnceAndRevokedForGood(t *testing.T) {
	w := newWorld(t)
	made := putToken(w, "ci", 1).(TokenTaken).Token
	if made.Actor != "tester" || made.Origin != "test" || made.CreatedMillis != w.now || made.RevokedMillis != 0 {
		t.Fatalf("made %+v", made)
	}
	w.now += 1000
	if again := putToken(w, "ci", 1).(TokenTaken).Token; again != made {
		t.Fatalf("the same command gave %+v", again)
	}
	mustRefuse(t, putToken(w, "ci", 2), saltpeter.CodeConflict)  // the name is taken
	mustRefuse(t, putToken(w, "bot", 1), saltpeter.CodeConflict) // the secret is another's
	revoked := w.do(&RevokeToken{Hash: made.Hash}).(TokenTaken).Token
	if revoked.RevokedMillis != w.now || revoked.RevokedBy != "tester" || revoked.Good(w.now) {
		t.Fatalf("revoked %+v", revoked)
	}
	mustRefuse(t, putToken(w, "ci", 1), saltpeter.CodeConflict) // the command that made it comes late
	if got, ok := w.m.View().Token(made.Hash); !ok || got != revoked {
		t.Fatalf("the record has %+v", got)
	}
	next := putToken(w, "ci", 3).(TokenTaken).Token
	if w.do(&RevokeToken{Hash: made.Hash}).(TokenTaken).Token != revoked { // a revocation comes late
		t.Fatal("a token was revoked twice")
	}
	if got, _ := w.m.View().Token(next.Hash); !got.Good(w.now) {
		t.Fatal("a late revocation ended the next token of that name")
	}
	mustRefuse(t, w.do(&RevokeToken{Hash: saltpeter.Digest{9}}), saltpeter.CodeNotFound)
	types := map[saltpeter.EventType]int{}
	for _, e := range w.events() {
		types[e.Type]++
	}
	if types[saltpeter.EventTokenCreated] != 2 || types[saltpeter.EventTokenRevoked] != 1 {
		t.Errorf("events %v", types)
	}
	m := restored(t, outlog.NewLossy(1), "/d", encodeState(t, w.m))
	if got, _ := m.View().Token(made.Hash); got != revoked || len(m.View().Tokens()) != 2 {
		t.Errorf("after a restart: %+v of %d", got, len(m.View().Tokens()))
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestTokensThatMakeNoSenseAreRefused(t *testing.T) {
	w := newWorld(t)
	good := saltpeter.Token{Name: "ci", Role: saltpeter.RoleAdmin, Hash: saltpeter.Digest{1}}
	for what, spoil := range map[string]func(*saltpeter.Token){
		"no name":         func(t *saltpeter.Token) { t.Name = "" },
		"a space":         func(t *saltpeter.Token) { t.Name = "c i" },
		"a line end":      func(t *saltpeter.Token) { t.Name = "ci\n" },
		"a long name":     func(t *saltpeter.Token) { t.Name = string(bytes.Repeat([]byte("x"), 65)) },
		"no role":         func(t *saltpeter.Token) { t.Role = 0 },
		"an unknown role": func(t *saltpeter.Token) { t.Role = saltpeter.RoleAdmin + 1 },
		"no hash":         func(t *saltpeter.Token) { t.Hash = saltpeter.Digest{} },
		"over already":    func(t *saltpeter.Token) { t.ExpiresMillis = w.now },
		"before 1970":     func(t *saltpeter.Token) { t.ExpiresMillis = -1 },
		"after 9999":      func(t *saltpeter.Token) { t.ExpiresMillis = maxMillis + 1 },
	} {
		bad := good
		spoil(&bad)
		if r, ok := w.do(&PutToken{Token: bad}).(*Refusal); !ok || r.Code != saltpeter.CodeInvalid {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if n := len(w.m.View().Tokens()); n != 0 {
		t.Fatalf("%d tokens", n)
	}
	good.ExpiresMillis = w.now + 1
	mustDone(t, w.do(&PutToken{Token: good}))
	if got, _ := w.m.View().Token(good.Hash); !got.Good(w.now) || got.Good(w.now+1) {
		t.Errorf("expiry of %+v", got)
	}
}

func TestTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	hash := func(i int) saltpeter.Digest { return saltpeter.DigestOf(fmt.Append(nil, i)) }
	put := func(i int) any {
		return w.do(&PutToken{Token: saltpeter.Token{Name: fmt.Sprint("t", i), Role: saltpeter.RoleViewer, Hash: hash(i)}})
	}
	for i := range saltpeter.MaxTokens {
		mustDone(t, put(i))
	}
	mustRefuse(t, put(saltpeter.MaxTokens), saltpeter.CodeTooMany)
	for i := range keepRevoked + 20 {
		w.now++
		mustDone(t, w.do(&RevokeToken{Hash: hash(i)}))
	}
	if n := w.m.state.revokedTokens(); n != keepRevoked {
		t.Errorf("%d revoked tokens are kept, want %d", n, keepRevoked)
	}
	if _, ok := w.m.View().Token(hash(19)); ok {
		t.Error("the oldest revoked tokens are still there")
	}
	if _, ok := w.m.View().Token(hash(20)); !ok {
		t.Error("a newer one went first")
	}
	mustDone(t, put(saltpeter.MaxTokens))
}

// TestTokensSurviveAnEpoch: what a restored record holds of tokens stays good.
func TestTokensSurviveAnEpoch(t *testing.T) {
	w := newWorld(t)
	made := putToken(w, "ci", 1).(TokenTaken).Token
	mustDone(t, w.do(&BeginEpoch{Epoch: 2, Reason: "restored"}))
	if got, _ := w.m.View().Token(made.Hash); got != made {
		t.Fatalf("got %+v", got)
	}
}

func TestLaunchesKeepTheirKey(t *testing.T) {
	w := newWorld(t)
	long, short := testJob("long"), testJob("short")
	w.config(saltpeter.DefaultSettings(), long, short)
	key := func(l *saltpeter.Launch) string { return w.m.View().LaunchKey(l.ID) }
	_, none := w.running("long", t0+1, "m1")
	if key(none) != "" || w.m.View().NewestLaunchKey() != "" {
		t.Fatalf("a key before one was named: %q", key(none))
	}
	end := func(l *saltpeter.Launch) {
		w.ask(l, 0, 1)
		w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	}
	end(none)
	mustDone(t, w.plan(&SetLaunchKey{Key: "old"}))
	mustDone(t, w.plan(&SetLaunchKey{Key: "old"}))
	_, under := w.running("long", t0+2, "m1")
	mustDone(t, w.plan(&SetLaunchKey{Key: "new"}))
	_, quick := w.running("short", t0+3, "m1")
	if key(under) != "old" || key(quick) != "new" || w.m.View().NewestLaunchKey() != "new" {
		t.Fatalf("keys %q, %q, now %q", key(under), key(quick), w.m.View().NewestLaunchKey())
	}
	end(quick)
	// Back and forth, as leaders change between files: only what unfinished runs need stays.
	for range 3 {
		mustDone(t, w.plan(&SetLaunchKey{Key: "old"}))
		if got := w.m.View().NewestLaunchKey(); got != "old" || key(under) != "old" {
			t.Fatalf("now %q, the long run's %q", got, key(under))
		}
		mustDone(t, w.plan(&SetLaunchKey{Key: "new"}))
	}
	if n := len(w.m.state.launchKeys); n != 2 || key(under) != "old" {
		t.Fatalf("%d series, the long run's %q", n, key(under))
	}
	if use := w.m.View().KeysInUse(); len(use) != 1 || len(use["old"]) != 1 || use["old"][0].Job != "long" {
		t.Fatalf("in use: %v", use)
	}
	mustRefuse(t, w.plan(&SetLaunchKey{}), saltpeter.CodeInvalid)
	stale := w.env()
	stale.Term = w.term + 1
	mustRefuse(t, w.doAs(stale, &SetLaunchKey{Key: "other"}), saltpeter.CodeNoLeader)
	m := restored(t, outlog.NewLossy(1), "/d", encodeState(t, w.m))
	if m.View().LaunchKey(under.ID) != "old" || m.View().NewestLaunchKey() != "new" {
		t.Error("the snapshot lacks the keys")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
