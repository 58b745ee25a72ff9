package saltclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// saltAPI plays rest_cherrypy in front of a master with the minions a, b and c.
type saltAPI struct {
	t *testing.T
	*httptest.Server

	mu      sync.Mutex // guards the following
	logins  int
	tokens  map[string]bool
	life    float64 // of tokens, in seconds
	refuse  string  // text of the 401 that logins get
	calls   []map[string]any
	answers map[string][]http.HandlerFunc // by function: the next ones, in the place of its own answer
	result  string                        // of jobs.list_job
}

func newSaltAPI(t *testing.T) *saltAPI {
	s := &saltAPI{t: t, tokens: map[string]bool{}, life: 43200, answers: map[string][]http.HandlerFunc{}, result: `{}`}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *saltAPI) open(o APIOptions) *API {
	o.URL, o.EAuth, o.User = s.URL+"/", "sharedsecret", "sp"
	if o.Password == nil {
		o.Password = func() (string, error) { return "hunter2", nil }
	}
	a := NewAPI(o)
	s.t.Cleanup(a.Close)
	return a
}

// next has the next calls of a function answered so.
func (s *saltAPI) next(fun string, answers ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[fun] = append(s.answers[fun], answers...)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// page is an error as CherryPy shows it.
func page(status int, text string) http.HandlerFunc {
	return says(status, "<!DOCTYPE html>\n<html><body><h2>no</h2>\n<p>"+text+"</p><pre id=\"traceback\"></pre><p>more</p></body></html>")
}

func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func cuts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = fmt.Fprint(w, `{"return": [{"jid"`)
	panic(http.ErrAbortHandler)
}

func (s *saltAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Requested-With") != "XMLHttpRequest" || r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("headers %v", r.Header)
	}
	if r.URL.Path == "/login" {
		s.login(w, r)
		return
	}
	var low []map[string]any
	if err := json.NewDecoder(r.Body).Decode(&low); err != nil || len(low) != 1 {
		s.t.Errorf("body: %v, %d chunks", err, len(low))
		return
	}
	fun, ok := low[0]["fun"].(string)
	if !ok {
		s.t.Errorf("fun is %v", low[0]["fun"])
	}
	s.mu.Lock()
	s.calls = append(s.calls, low[0])
	answer := s.answer(low[0])
	if !s.tokens[r.Header.Get("X-Auth-Token")] {
		answer = page(401, "No permission -- see authorization schemes")
	} else if q := s.answers[fun]; len(q) > 0 {
		answer, s.answers[fun] = q[0], q[1:]
	}
	s.mu.Unlock()
	answer(w, r)
}

func (s *saltAPI) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ Username, Password, EAuth string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	s.logins++
	token := fmt.Sprint("token", s.logins)
	refuse, life := s.refuse, s.life
	if in.Password != "hunter2" {
		refuse = "Could not authenticate using provided credentials"
	}
	s.tokens[token] = refuse == ""
	answer := says(200, fmt.Sprintf(`{"return":[{"token":%q,"start":1795436627.25,"expire":%f,"user":"sp","perms":[".*","@runner",{"@wheel":["key.*"]}]}]}`, token, 1795436627.25+life))
	if q := s.answers["/login"]; len(q) > 0 {
		answer, s.answers["/login"] = q[0], q[1:]
	}
	s.mu.Unlock()
	if refuse != "" {
		answer = page(401, refuse)
	}
	answer(w, r)
}

// answer is what a sound master says.
func (s *saltAPI) answer(low map[string]any) http.HandlerFunc {
	wheel := func(text string) http.HandlerFunc {
		return says(200, `{"return":[{"tag":"salt/wheel/1","data":{"success":true,"return":`+text+`}}]}`)
	}
	switch low["fun"] {
	case "cache.mine", "cache.grains":
		got := matchABC(low["tgt"])
		if len(got) == 0 && low["fun"] == "cache.mine" {
			got = []string{"a", "b", "c"} // as Salt does
		}
		return says(200, `{"return":[{`+strings.Join(quoted(got, ":{}"), ",")+`}]}`)
	case "jobs.list_job":
		return says(200, `{"return":[{"jid":"1","Result":`+s.result+`}]}`)
	case "key.print":
		return wheel(`{"minions":{"a":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},"minions_pre":{"b":"x"}}`)
	case "key.list_all":
		return wheel(`{"minions":["a","b","c"],"minions_pre":["d"]}`)
	case "salt.cmd":
		return says(200, `{"return":["3008.1"]}`)
	case "config.get":
		return says(200, `{"return":[true]}`)
	default:
		got := matchABC(low["tgt"])
		if len(got) == 0 {
			return says(200, `{"return":[{}]}`)
		}
		return says(200, `{"return":[{"jid":"20261123122348910159","minions":[`+strings.Join(quoted(got, ""), ",")+`]}]}`)
	}
}

func quoted(ids []string, end string) (out []string) {
	for _, id := range ids {
		out = append(out, fmt.Sprintf("%q%s", id, end))
	}
	return out
}

// matchABC knows the expressions of these tests.
func matchABC(tgt any) []string {
	if list, ok := tgt.([]any); ok {
		var out []string
		for _, id := range list {
			if slices.Contains([]any{"a", "b", "c"}, id) {
				out = append(out, id.(string))
			}
		}
		return out
	}
	return map[string][]string{
		"*": {"a", "b", "c"}, "role:web": {"a", "b"}, "( G@role:web ) and L@a": {"a"},
		"( G@role:no ) or L@a": {"a"}, "has space": {"c"}, "all": {"a", "b", "c"}, "( N@all ) and L@a": {"a"},
	}[tgt.(string)]
}

func (s *saltAPI) count(fun string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c["fun"] == fun {
			n++
		}
	}
	return n
}

func list(ids ...string) Expression    { return Expression{Type: "list", Text: ids} }
func one(kind, text string) Expression { return Expression{Type: kind, Text: []string{text}} }
func pings(e Expression) *Publication  { return &Publication{ID: 1, Target: e, Function: "test.ping"} }

func TestAPIResolves(t *testing.T) {
	a := newSaltAPI(t).open(APIOptions{})
	for _, c := range []struct {
		e       Expression
		want    Matched
		wrong   bool
		explain string
	}{
		{e: one("glob", "*"), want: Matched{Minions: []string{"a", "b", "c"}}},
		{e: one("grain", "role:web"), want: Matched{Minions: []string{"a", "b"}}},
		{e: one("nodegroup", "all"), want: Matched{Minions: []string{"a", "b", "c"}}, explain: "really all"},
		{e: one("grain", "role:no"), explain: "cache.mine gives all where nothing matches"},
		{e: one("nodegroup", "nope"), wrong: true},
		{e: one("compound", "G@x and ("), wrong: true},
		{e: one("grain", "has space"), want: Matched{Minions: []string{"c"}}},
		{e: one("grain", "no such"), explain: "no word of a compound expression"},
		{e: one("pillar_exact", "a:b"), wrong: true},
		{e: one("ipcidr", "10.0.0/8"), wrong: true},
		{e: list(), wrong: true},
		{e: list("a", "x", "b"), want: Matched{Minions: []string{"a", "b"}, Missing: []string{"x"}}},
		{e: list("x", "y"), want: Matched{Missing: []string{"x", "y"}}},
	} {
		got, err := a.Resolve(t.Context(), c.e)
		if errors.Is(err, ErrExpression) != c.wrong || (err != nil) != c.wrong {
			t.Errorf("%v: %v", c.e, err)
		}
		if !slices.Equal(got.Minions, c.want.Minions) || !slices.Equal(got.Missing, c.want.Missing) {
			t.Errorf("%v: %v, want %v (%s)", c.e, got, c.want, c.explain)
		}
	}
}

func TestAPIPublishes(t *testing.T) {
	const id = saltpeter.LaunchID(5)
	s := newSaltAPI(t)
	p := &Publication{ID: id, Target: list("a", "x"), Function: "cmd.run_all", Kwargs: map[string]any{"cmd": "X=5 true"}}
	got, err := s.open(APIOptions{}).Publish(t.Context(), p)
	if err != nil || !slices.Equal(got, []string{"a"}) {
		t.Fatal(got, err)
	}
	want := map[string]any{
		"client": "local_async", "fun": "cmd.run_all", "tgt": []any{"a", "x"}, "tgt_type": "list",
		"jid": id.String(), "kwarg": map[string]any{"cmd": "X=5 true"},
	}
	if text, wanted := fmt.Sprint(s.calls[0]), fmt.Sprint(want); text != wanted {
		t.Errorf("sent %s, want %s", text, wanted)
	}
}

// A publish that fails is doubtful unless it certainly did nothing.
func TestAPIClassesOfErrors(t *testing.T) {
	none := says(200, `{"return":[{}]}`)
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		target  Expression
		want    error
		text    string
	}{
		"500":               {[]http.HandlerFunc{says(500, `{"status": 500, "return": "An unexpected error occurred"}`)}, list("a"), ErrDoubtful, "An unexpected error occurred"},
		"503":               {[]http.HandlerFunc{page(503, "Message timed out")}, list("a"), ErrDoubtful, "Message timed out"},
		"hang":              {[]http.HandlerFunc{hangs}, list("a"), ErrDoubtful, ""},
		"cut":               {[]http.HandlerFunc{cuts}, list("a"), ErrDoubtful, ""},
		"empty, known":      {[]http.HandlerFunc{none}, list("a"), ErrDoubtful, "overloaded"},
		"empty, expression": {[]http.HandlerFunc{none}, one("grain", "role:web"), ErrDoubtful, "overloaded"},
		"empty, unknown":    {[]http.HandlerFunc{none}, list("x"), nil, ""},
		"empty, wrong":      {[]http.HandlerFunc{none}, one("nodegroup", "nope"), ErrExpression, ""},
		"wrong":             {nil, one("pillar_exact", "a:b"), ErrExpression, "pillar_exact"},
		"500, wrong":        {[]http.HandlerFunc{says(500, "")}, one("nodegroup", "nope"), ErrExpression, ""},
		"true":              {[]http.HandlerFunc{says(200, `{"return":[true]}`)}, list("a"), ErrDoubtful, "bool"},
		"text":              {[]http.HandlerFunc{says(200, `{"return":["Traceback:\n  x\nOops: why"]}`)}, list("a"), ErrDoubtful, "Oops: why"},
		"list":              {[]http.HandlerFunc{says(200, `{"return":[["a"]]}`)}, list("a"), ErrDoubtful, "array"},
		"no element":        {[]http.HandlerFunc{says(200, `{"return":[]}`)}, list("a"), ErrDoubtful, "not salt-api's"},
		"another server":    {[]http.HandlerFunc{says(200, `<html>hello`)}, list("a"), ErrDoubtful, "not salt-api's"},
		"not there":         {[]http.HandlerFunc{page(404, "The path '/' was not found.")}, list("a"), ErrUnreachable, "404"},
		"too big":           {[]http.HandlerFunc{page(413, "too big")}, list("a"), ErrUnreachable, "413"},
		"disabled":          {[]http.HandlerFunc{page(400, "Client disabled: &#39;local_async&#39;. Add")}, list("a"), ErrDenied, "Client disabled: 'local_async'"},
		"no right":          {[]http.HandlerFunc{page(401, "Authorization error occurred.")}, list("a"), ErrDenied, "Authorization error"},
		"ended twice":       {[]http.HandlerFunc{page(401, "Authentication error occurred."), page(401, "Authentication error occurred.")}, list("a"), ErrDenied, "Authentication error"},
		"ended once":        {[]http.HandlerFunc{page(401, "Authentication error occurred.")}, list("a"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSaltAPI(t)
			a := s.open(APIOptions{Limit: 300 * time.Millisecond})
			if _, err := a.Resolve(t.Context(), list("a")); err != nil { // the login, beside what is tried
				t.Fatal(err)
			}
			s.next("test.ping", c.answers...)
			_, err := a.Publish(t.Context(), pings(c.target))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (err != nil && !strings.Contains(err.Error(), c.text)) {
				t.Errorf("%v, want %v with %q", err, c.want, c.text)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "token1") || strings.Contains(err.Error(), "<")) {
				t.Errorf("says too much: %v", err)
			}
		})
	}
}

func TestAPIFollowsNoRedirect(t *testing.T) {
	s := newSaltAPI(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer elsewhere.Close()
	s.next("/login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	if _, err := s.open(APIOptions{}).Health(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), elsewhere.URL) {
		t.Error(err)
	}
}

func TestAPIThatIsNotThere(t *testing.T) {
	s := newSaltAPI(t)
	a := s.open(APIOptions{})
	s.Close()
	if _, err := a.Publish(t.Context(), pings(list("a"))); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	a = NewAPI(APIOptions{URL: tls.URL, Password: func() (string, error) { return "", nil }})
	if _, err := a.Health(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	a = NewAPI(APIOptions{URL: tls.URL, CAFile: t.TempDir() + "/ca.pem", Password: func() (string, error) { return "", nil }})
	if _, err := a.Health(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "ca_file") {
		t.Error(err)
	}
}

func TestAPISessions(t *testing.T) {
	ask := func(t *testing.T, a *API) {
		t.Helper()
		if _, err := a.Publish(t.Context(), pings(list("a"))); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("kept", func(t *testing.T) {
		s := newSaltAPI(t)
		a := s.open(APIOptions{})
		var g sync.WaitGroup
		for range 8 {
			g.Go(func() { ask(t, a) })
		}
		g.Wait()
		if s.logins != 1 {
			t.Errorf("%d logins", s.logins)
		}
	})
	t.Run("lost", func(t *testing.T) { // salt-api was restarted
		s := newSaltAPI(t)
		a := s.open(APIOptions{})
		ask(t, a)
		s.mu.Lock()
		clear(s.tokens)
		s.mu.Unlock()
		ask(t, a)
		if s.logins != 2 || s.count("test.ping") != 3 {
			t.Errorf("%d logins, %d calls", s.logins, s.count("test.ping"))
		}
	})
	t.Run("short", func(t *testing.T) { // renewed before it ends
		s := newSaltAPI(t)
		s.life = 0.001
		a := s.open(APIOptions{})
		ask(t, a)
		time.Sleep(2 * time.Millisecond) // the token's life by the only clock that there is
		ask(t, a)
		if s.logins != 2 {
			t.Errorf("%d logins", s.logins)
		}
	})
	t.Run("refused", func(t *testing.T) { // not tried again and again: accounts get locked
		s := newSaltAPI(t)
		a := s.open(APIOptions{Password: func() (string, error) { return "wr0ng", nil }})
		for range 3 {
			_, err := a.Publish(t.Context(), pings(list("a")))
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "Could not authenticate") || strings.Contains(err.Error(), "wr0ng") {
				t.Fatal(err)
			}
		}
		if s.logins != 1 {
			t.Errorf("%d logins", s.logins)
		}
	})
	t.Run("hangs", func(t *testing.T) { // Salt's own limit is three minutes
		s := newSaltAPI(t)
		s.next("/login", hangs)
		a := s.open(APIOptions{Limit: 100 * time.Millisecond})
		if _, err := a.Publish(t.Context(), pings(list("a"))); !errors.Is(err, ErrUnreachable) {
			t.Fatal(err) // certainly nothing was published
		}
		ask(t, a)
	})
	t.Run("no password", func(t *testing.T) {
		s := newSaltAPI(t)
		_, err := s.open(APIOptions{Password: func() (string, error) { return "", errors.New("no such file") }}).Health(t.Context())
		if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "no such file") {
			t.Error(err)
		}
	})
}

func TestTokenLife(t *testing.T) {
	for _, c := range []struct {
		start, expire float64
		want          time.Duration
	}{
		{1795436627.25, 1795479827.25, 8 * time.Hour},
		{1795436627, 1795436727, 80 * time.Second},
		{0, 0, 0}, {5, 1, 8 * time.Hour},
	} {
		if got := tokenLife(c.start, c.expire); got != c.want {
			t.Errorf("%v to %v: %v, want %v", c.start, c.expire, got, c.want)
		}
	}
}

func TestAPIReturns(t *testing.T) {
	s := newSaltAPI(t)
	s.result = `{"c":{"return":true,"retcode":0,"success":true},"a":{"return":{"pid":1,"retcode":7,"stdout":"o","stderr":"e"},"retcode":7,"success":false},
		"b":{"return":"ERROR: User 'x' is not available","retcode":1,"success":false},"d":false,"e":{"out":"nested"}}`
	got, err := s.open(APIOptions{}).Returns(t.Context(), 1)
	want := []Return{
		{Minion: "a", Code: 7, Stdout: "o", Stderr: "e"}, {Minion: "b", Code: 1, Refused: "ERROR: User 'x' is not available"},
		{Minion: "c", Success: true, Stdout: "true"}, {Minion: "d", Success: true, Stdout: "false"}, {Minion: "e", Success: true, Stdout: `{"out":"nested"}`},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestAPIPings(t *testing.T) {
	s := newSaltAPI(t)
	a := s.open(APIOptions{})
	s.next("jobs.list_job", says(200, `{"return":[{"Result":{}}]}`), says(500, ""),
		says(200, `{"return":[{"Result":{"a":{"return":true}}}]}`), says(200, `{"return":[{"Result":{"a":{"return":true},"c":{"return":true}}}]}`))
	var up []string
	note := func(m string) { up = append(up, m) }
	if err := a.Ping(t.Context(), []string{"a", "c", "x"}, note); err != nil || !slices.Equal(up, []string{"a", "c"}) {
		t.Error(up, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.Ping(ctx, []string{"a"}, note); err != nil || len(up) != 2 {
		t.Error("a deadline is no error:", up, err)
	}
	s.next("test.ping", says(200, `{"return":[{}]}`))
	if err := a.Ping(t.Context(), []string{"a"}, note); !errors.Is(err, ErrDoubtful) {
		t.Error("nobody named:", err)
	}
	s.next("test.ping", page(401, "Authorization error occurred."))
	if err := a.Ping(t.Context(), []string{"a"}, note); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
}

func TestAPIKey(t *testing.T) {
	s := newSaltAPI(t)
	a := s.open(APIOptions{})
	if key, err := a.Key(t.Context(), "a"); err != nil || !strings.HasPrefix(string(key), "-----BEGIN PUBLIC KEY-----\n") {
		t.Error(key, err)
	}
	for _, id := range []string{"b", "*,", "", "../a"} { // b's key is not accepted
		if _, err := a.Key(t.Context(), id); !errors.Is(err, ErrNoKey) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if got := s.calls[2]["match"]; got != "[*]?" {
		t.Errorf("asked for %v", got)
	}
	s.next("key.print", page(401, `Authentication failure of type "token" occurred for user sp.`))
	if _, err := a.Key(t.Context(), "a"); !errors.Is(err, ErrDenied) || s.logins != 1 {
		t.Error(err, s.logins)
	}
	s.next("key.print", says(200, `{"return":[{"data":{"success":true,"return":"Exception occurred in wheel key.print: x"}}]}`))
	if _, err := a.Key(t.Context(), "a"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

func TestAPIHealth(t *testing.T) {
	s := newSaltAPI(t)
	a := s.open(APIOptions{Limit: 300 * time.Millisecond})
	for range 2 { // what changes rarely is asked for once
		h, err := a.Health(t.Context())
		if err != nil || h.Version != "3008.1" || !h.Filtered || h.Minions != 3 || !strings.Contains(h.Notes, "3008.2") || s.count("key.list_all") != 1 {
			t.Fatalf("%+v %v", h, err)
		}
	}
	s.next("test.ping", hangs) // salt-api is there, its master is not
	if _, err := a.Health(t.Context()); !errors.Is(err, ErrDoubtful) {
		t.Error(err)
	}
	s = newSaltAPI(t)
	s.next("key.list_all", page(401, "Authorization error occurred."))
	if h, err := s.open(APIOptions{}).Health(t.Context()); err != nil || !strings.Contains(h.Notes, "key.list_all") {
		t.Errorf("%+v %v", h, err)
	}
}

func TestAPITooLate(t *testing.T) {
	s := newSaltAPI(t)
	p := pings(list("a"))
	p.Deadline = time.Now().Add(-time.Millisecond)
	if _, err := s.open(APIOptions{}).Publish(t.Context(), p); !errors.Is(err, ErrUnreachable) || s.count("test.ping") != 0 {
		t.Error(err)
	}
}
