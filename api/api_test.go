package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// newServer gives the API of a node; its requests come from the network.
func newServer(t *testing.T, n *apitest.Node) *api.Server {
	t.Helper()
	s, err := api.New(api.Config{Node: n, Now: n.Now, Socket: "/run/saltpeter/admin.sock"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends one request to a handler. Its header lines are "Name: value".
func ask(h http.Handler, method, target, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "req-1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func problemOf(t *testing.T, resp *http.Response) api.Problem {
	t.Helper()
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type = %q, want application/problem+json", got)
	}
	var p api.Problem
	if err := json.Unmarshal(bodyOf(t, resp), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != resp.StatusCode {
		t.Errorf("status in the problem = %d, of the answer = %d", p.Status, resp.StatusCode)
	}
	return p
}

// TestShapes pins the JSON of every resource.
func TestShapes(t *testing.T) {
	const job, run = "cache%2Fwarm%20%E2%98%83%20100%25", "cache%2Fwarm%20%E2%98%83%20100%25_1795417495"
	tests := []struct{ name, method, path, body string }{
		{"status", "GET", "status", ""},
		{"version", "GET", "version", ""},
		{"jobs", "GET", "jobs?limit=2", ""},
		{"jobs-group", "GET", "jobs?group=infra", ""},
		{"job", "GET", "jobs/backup_databases", ""},
		{"job-odd-name", "GET", "jobs/" + job, ""},
		{"job-unknown", "GET", "jobs/nothing", ""},
		{"skips", "GET", "jobs/backup_databases/skips", ""},
		{"next", "GET", "jobs/backup_databases/next?n=3", ""},
		{"next-never", "GET", "jobs/rotate_certs/next", ""},
		{"runs", "GET", "runs", ""},
		{"runs-of-job", "GET", "runs?job=backup_databases&limit=1", ""},
		{"runs-failed", "GET", "runs?state=failed,no-targets", ""},
		{"runs-unfinished", "GET", "runs?state=unfinished", ""},
		{"runs-unknown-job", "GET", "runs?job=nothing", ""},
		{"run", "GET", "runs/" + run, ""},
		{"machines", "GET", "runs/backup_databases_1795399500/machines", ""},
		{"machines-in-progress", "GET", "runs/" + run + "/machines", ""},
		{"machine", "GET", "runs/" + run + "/machines/web%2F1%20%C3%BC%252F", ""},
		{"machine-unknown", "GET", "runs/" + run + "/machines/web9", ""},
		{"output-json", "GET", "runs/backup_databases_1795399500/machines/db19/output?offset=5&limit=8", ""},
		{"output-binary", "GET", "runs/cache%2Fwarm%20%E2%98%83%20100%25_1795417490/machines/web%2F1%20%C3%BC%252F/output?format=json", ""},
		{"maintenance", "GET", "maintenance", ""},
		{"explain", "POST", "schedule/explain", `{"expr":"0 2 13 * 5","timezone":"Europe/Bucharest","day_match":"or","after":"2026-11-23T00:00:00Z","n":2}`},
		{"explain-invalid", "POST", "schedule/explain", `{"expr":"*/60 * * * *"}`},
		{"start", "POST", "jobs/backup_databases/runs", `{"note":"again","machines":["db07"]}`},
		{"kill", "POST", "runs/" + run + "/kill", ``},
		{"kill-machine", "POST", "runs/" + run + "/machines/web2/kill", `{}`},
		{"maintenance-on", "PUT", "maintenance/group/db", `{"for":"2h","reason":"SAN firmware"}`},
		{"maintenance-off", "DELETE", "maintenance/machine/server01", ""},
		{"pause", "POST", "jobs/backup_databases/pause", `{"reason":"SAN"}`},
		{"resume", "POST", "jobs/rotate_certs/resume", ""},
		{"body-problems", "POST", "jobs/backup_databases/runs", `{"note":7,"machine":"db07","machines":"x"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := apitest.Scene()
			h := newServer(t, n).Handler(api.OriginNetwork)
			resp := ask(h, test.method, "/api/v1/"+test.path, test.body)
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, bodyOf(t, resp), "", "  "); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%s /api/v1/%s %s\n%d %s\n%s", test.method, test.path, test.body, resp.StatusCode, resp.Header.Get("Content-Type"), pretty.Bytes())
			apitest.Golden(t, test.name+".golden", []byte(got))
		})
	}
}

// declaredCodes reads the error codes of the root package from its source.
func declaredCodes(t *testing.T) []saltpeter.ErrorCode {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []saltpeter.ErrorCode
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, saltpeter.ErrorCode(text))
		return true
	})
	return codes
}

func TestEveryErrorCodeHasAStatus(t *testing.T) {
	codes := declaredCodes(t)
	if len(codes) < 10 {
		t.Fatalf("found only %d codes in the root package", len(codes))
	}
	want := map[saltpeter.ErrorCode]int{
		"invalid": 400, "not-found": 404, "conflict": 409, "key-reused": 422, "unauthenticated": 401, "forbidden": 403, "too-large": 413,
		"too-many": 429, "no-leader": 503, "unavailable": 503, "timeout": 504, "invalid-config": 422, "internal": 500,
	}
	for _, code := range codes {
		n := apitest.Scene()
		n.Fail(saltpeter.Errorf(code, "it went wrong").WithHint("mend it"))
		resp := ask(newServer(t, n).Handler(api.OriginNetwork), "GET", "/api/v1/jobs", "")
		p := problemOf(t, resp)
		if resp.StatusCode != want[code] {
			t.Errorf("%s: status %d, want %d", code, resp.StatusCode, want[code])
		}
		if p.Code != code || p.Detail != "it went wrong" || p.Hint != "mend it" || p.Title == "" || p.RequestID != "req-1" || p.Instance != "/api/v1/jobs" {
			t.Errorf("%s: problem %+v", code, p)
		}
		if p.Retryable != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%s: retryable %v, Retry-After %q", code, p.Retryable, resp.Header.Get("Retry-After"))
		}
		if back := p.Err(); back.Code != code || back.Message != "it went wrong" || back.Hint != "mend it" {
			t.Errorf("%s: came back as %+v", code, back)
		}
	}
}

func TestErrorWithoutCodeTellsNothing(t *testing.T) {
	n := apitest.Scene()
	n.Fail(fmt.Errorf("open /var/lib/secret: %w", io.ErrUnexpectedEOF))
	resp := ask(newServer(t, n).Handler(api.OriginNetwork), "GET", "/api/v1/jobs", "")
	raw := bodyOf(t, resp)
	if resp.StatusCode != 500 || bytes.Contains(raw, []byte("secret")) {
		t.Errorf("answer %d %s", resp.StatusCode, raw)
	}
}

// TestRefusals pins what is refused, with which status and which words.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", 2000)
	tests := []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/v1/jobz", "", 404, "there is no /api/v1/jobz"},
		{"GET", "/nothing", "", 404, "there is no /nothing"},
		{"POST", "/api/v1/status", "", 405, "POST is not for"},
		{"DELETE", "/api/v1/jobs/x", "", 405, "DELETE is not for"},
		{"GET", "/api/v1/jobs?limit=0", "", 400, `parameter limit: "0" is not a whole number from 1`},
		{"GET", "/api/v1/jobs?limit=many", "", 400, "parameter limit"},
		{"GET", "/api/v1/jobs?limit=1&limit=2", "", 400, `parameter "limit" is given 2 times`},
		{"GET", "/api/v1/jobs?cursor=zzz", "", 400, `cursor "zzz" is not one of this list`},
		{"GET", "/api/v1/runs?cursor=ajE", "", 400, "is not one of this list"},
		{"GET", "/api/v1/runs?stat=failed", "", 400, `unknown parameter "stat"`},
		{"GET", "/api/v1/runs?state=broken", "", 400, `parameter state: "broken" is not a state: claimed, running`},
		{"GET", "/api/v1/runs?state=", "", 400, "parameter state"},
		{"GET", "/api/v1/runs?consistency=maybe", "", 400, "parameter consistency"},
		{"GET", "/api/v1/runs?job=%zz", "", 400, "query string"},
		{"GET", "/api/v1/runs/nothing", "", 404, `run "nothing" not found`},
		{"GET", "/api/v1/runs/nothing/machines", "", 404, `run "nothing" not found`},
		{"GET", "/api/v1/jobs/nothing/skips", "", 404, `job "nothing" not found`},
		{"GET", "/api/v1/jobs/backup_databases/next?n=100000", "", 400, "parameter n"},
		{"GET", "/api/v1/jobs/backup_databases/next?after=today", "", 400, "a time like 2026"},
		{"GET", "/api/v1/runs/backup_databases_1795399500/machines/db19/output?offset=-1", "", 400, "parameter offset"},
		{"GET", "/api/v1/runs/backup_databases_1795399500/machines/db19/output?format=xml", "", 400, "one of json, raw"},
		{"GET", "/api/v1/runs/backup_databases_1795399500/machines/db19/output?format=json&follow=1", "", 400, "raw or sse, which follow needs"},
		{"GET", "/api/v1/runs/backup_databases_1795399500?wait=3600", "", 400, "parameter wait"},
		{"POST", "/api/v1/jobs/nothing/runs", "", 404, `job "nothing" not found`},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{"note":`, 400, "the body is not valid JSON"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `[]`, 400, "the body is not a JSON object"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{} {}`, 400, "the body is not valid JSON"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{"note":"` + long + `"}`, 400, "note has 2000 bytes"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{"note":"` + strings.Repeat(long, 600) + `"}`, 413, "more than 1048576 bytes"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{"machines":["a",""]}`, 400, "machines 1 is empty"},
		{"POST", "/api/v1/jobs/backup_databases/runs", `{"machines":["a\u0000"]}`, 400, "has a control character"},
		{"POST", "/api/v1/runs/backup_databases_1795399500/kill", "", 409, "the run is finished"},
		{"POST", "/api/v1/runs/backup_databases_1795399500/kill", `{"machines":["db99"]}`, 404, `machine "db99" is not in run`},
		{"POST", "/api/v1/runs/backup_databases_1795399500/kill", `{"machines":[]}`, 400, "machines is empty"},
		{"PUT", "/api/v1/maintenance/all", `{}`, 400, "how long is not said"},
		{"PUT", "/api/v1/maintenance/all", `{"for":60,"forever":true}`, 400, "how long is not said, or said twice"},
		{"PUT", "/api/v1/maintenance/all", `{"for":"soon"}`, 400, "the body is not what"},
		{"PUT", "/api/v1/maintenance/all", `{"for":-5}`, 400, "the body is not what"},
		{"PUT", "/api/v1/maintenance/all", `{"until":"2020-01-01T00:00:00Z"}`, 400, "until lies in the past"},
		{"PUT", "/api/v1/maintenance/all", `{"for":"20000d"}`, 400, "more than ten years"},
		{"PUT", "/api/v1/maintenance/all/x", `{"forever":true}`, 400, "scope all has no name"},
		{"PUT", "/api/v1/maintenance/group", `{"forever":true}`, 400, "scope group needs a name"},
		{"PUT", "/api/v1/maintenance/planet/mars", `{"forever":true}`, 404, `there is no scope "planet"`},
		{"PUT", "/api/v1/maintenance/group/dbs", `{"forever":true}`, 404, `no job is in group "dbs"`},
		{"PUT", "/api/v1/maintenance/job/nothing", `{"forever":true}`, 404, `job "nothing" not found`},
		{"DELETE", "/api/v1/maintenance/all", `{"force":true}`, 400, "the body is not what"},
		{"POST", "/api/v1/jobs/nothing/pause", "", 404, `job "nothing" not found`},
		{"POST", "/api/v1/jobs/nothing/resume", "", 404, `job "nothing" not found`},
		{"POST", "/api/v1/schedule/explain", `{"expr":"* * * * *","n":0}`, 400, "n is out of range"},
		{"POST", "/api/v1/schedule/explain", `{"expr":"* * * * *","day_match":"xor"}`, 400, "day_match is neither"},
		{"POST", "/api/v1/schedule/explain", `{"expr":"* * * * *","after":"noon"}`, 400, "the body is not what"},
	}
	for _, test := range tests {
		n := apitest.Scene()
		resp := ask(newServer(t, n).Handler(api.OriginNetwork), test.method, test.path, test.body)
		p := problemOf(t, resp)
		if resp.StatusCode != test.status || !strings.Contains(p.Detail, test.says) {
			t.Errorf("%s %s %.60s\n got %d %q (%v)\nwant %d %q", test.method, test.path, test.body, resp.StatusCode, p.Detail, p.Errors, test.status, test.says)
		}
		if test.method == "GET" && len(n.Actors()) > 0 {
			t.Errorf("%s %s wrote something", test.method, test.path)
		}
	}
}

func TestMethods(t *testing.T) {
	h := newServer(t, apitest.Scene()).Handler(api.OriginNetwork)
	resp := ask(h, "OPTIONS", "/api/v1/maintenance/all", "")
	if got := resp.Header.Get("Allow"); resp.StatusCode != 204 || got != "DELETE, GET, HEAD, OPTIONS, PUT" {
		t.Errorf("OPTIONS: %d, Allow %q", resp.StatusCode, got)
	}
	if resp := ask(h, "HEAD", "/api/v1/status", ""); resp.StatusCode != 200 {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
	resp = ask(h, "POST", "/api/v1/jobs/backup_databases/runs", "note=x", "Content-Type: application/x-www-form-urlencoded")
	if p := problemOf(t, resp); resp.StatusCode != 415 || p.Code != saltpeter.CodeInvalid {
		t.Errorf("form: %d %+v", resp.StatusCode, p)
	}
	resp = ask(h, "POST", "/api/v1/jobs/backup_databases/runs", "{}", "Sec-Fetch-Site: cross-site")
	if p := problemOf(t, resp); resp.StatusCode != 403 || p.Code != saltpeter.CodeForbidden {
		t.Errorf("cross origin: %d %+v", resp.StatusCode, p)
	}
}

// TestPages walks lists with every page size while runs are added, and must see each item of the beginning once.
func TestPages(t *testing.T) {
	for limit := 1; limit <= 6; limit++ {
		n := apitest.Scene()
		h := newServer(t, n).Handler(api.OriginSocket)
		want := map[string]int{"runs": 5, "jobs": 3, "jobs/backup_databases/skips": 2, "runs/backup_databases_1795399500/machines": 3}
		for path, total := range want {
			seen, pages, cursor := map[string]int{}, 0, ""
			for {
				resp := ask(h, "GET", fmt.Sprintf("/api/v1/%s?limit=%d&cursor=%s", path, limit, url.QueryEscape(cursor)), "")
				var page api.Page[json.RawMessage]
				if err := json.Unmarshal(bodyOf(t, resp), &page); err != nil {
					t.Fatal(err)
				}
				if len(page.Items) > limit {
					t.Fatalf("%s: %d items in a page of %d", path, len(page.Items), limit)
				}
				for _, raw := range page.Items {
					seen[string(raw)]++
				}
				if path == "runs" {
					n.AddRun("rotate_certs", n.Now())
				}
				if pages++; page.NextCursor == "" || pages > 10 {
					break
				}
				cursor = page.NextCursor
			}
			if len(seen) != total {
				t.Errorf("%s with limit %d: %d items, want %d", path, limit, len(seen), total)
			}
			for item, times := range seen {
				if times != 1 {
					t.Errorf("%s with limit %d: %d times %s", path, limit, times, item)
				}
			}
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	n := apitest.Scene()
	h := newServer(t, n).Handler(api.OriginSocket)
	const path = "/api/v1/jobs/backup_databases/runs"
	id := func(resp *http.Response) string {
		var run api.Run
		if err := json.Unmarshal(bodyOf(t, resp), &run); err != nil {
			t.Fatal(err)
		}
		return run.ID
	}
	first := ask(h, "POST", path, `{"note":"a"}`, "Idempotency-Key: k1")
	if got := first.Header.Get("Location"); got != "/api/v1/runs/backup_databases_1795417500" {
		t.Errorf("Location = %q", got)
	}
	one := id(first)
	if again := id(ask(h, "POST", path, `{"note":"a"}`, `Idempotency-Key: "k1"`)); again != one {
		t.Errorf("the same key gave %s and %s", one, again)
	}
	if other := id(ask(h, "POST", path, `{"note":"a"}`, "Idempotency-Key: k2")); other == one {
		t.Errorf("another key gave the same run %s", other)
	}
	if resp := ask(h, "POST", path, `{"note":"b"}`, "Idempotency-Key: k1"); resp.StatusCode != 422 {
		t.Errorf("the same key with another note: %d", resp.StatusCode)
	}
	for _, bad := range []string{"two words", strings.Repeat("k", 256), "ü", `""`} {
		if resp := ask(h, "POST", path, "", "Idempotency-Key: "+bad); resp.StatusCode != 400 {
			t.Errorf("key %.20q: %d", bad, resp.StatusCode)
		}
	}
}

func TestConsistency(t *testing.T) {
	n := apitest.Scene()
	n.Fail(saltpeter.Errorf(saltpeter.CodeNoLeader, "no leader"))
	h := newServer(t, n).Handler(api.OriginSocket)
	resp := ask(h, "GET", "/api/v1/jobs", "")
	if resp.StatusCode != 503 || resp.Header.Get("X-Saltpeter-Known-Leader") != "false" {
		t.Errorf("strong read without a leader: %d %v", resp.StatusCode, resp.Header)
	}
	resp = ask(h, "GET", "/api/v1/jobs?consistency=stale", "")
	if resp.StatusCode != 200 || resp.Header.Get("X-Saltpeter-Index") == "" {
		t.Errorf("stale read: %d %v", resp.StatusCode, resp.Header)
	}
	var status api.Status
	if err := json.Unmarshal(bodyOf(t, ask(h, "GET", "/api/v1/status", "")), &status); err != nil {
		t.Fatal(err)
	}
	if !status.Stale || status.Jobs.Total != 3 {
		t.Errorf("status without a leader: %+v", status)
	}
}
