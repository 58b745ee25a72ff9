package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// TestListsCanBeWaitedFor asks every list for something new, in a bubble, where time is exact.
func TestListsCanBeWaitedFor(t *testing.T) {
	for _, path := range []string{"jobs", "jobs/backup_databases", "jobs/backup_databases/skips", "jobs/backup_databases/runs", "runs", "maintenance",
		"runs/backup_databases_1795399500/machines", "runs/backup_databases_1795399500"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := apitest.Scene()
				h := newServer(t, n).Handler(api.OriginNetwork)
				first := ask(h, "GET", "/api/v1/"+path, "")
				tag, index := first.Header.Get("Etag"), first.Header.Get("X-Saltpeter-Index")
				if tag == "" || index == "" {
					t.Fatalf("etag %q, index %q", tag, index)
				}
				if got := ask(h, "GET", "/api/v1/"+path, "", "If-None-Match: "+tag); got.StatusCode != http.StatusNotModified {
					t.Errorf("the same again: status %d", got.StatusCode)
				}
				began := time.Now()
				n.AddJob("other", nil) // the index grows; only the list of jobs is another one
				want := http.StatusNotModified
				if path == "jobs" {
					want = http.StatusOK
				}
				if got := ask(h, "GET", "/api/v1/"+path+"?wait=20s", "", "If-None-Match: "+tag); got.StatusCode != want {
					t.Errorf("status %d, want %d", got.StatusCode, want)
				}
				if took := time.Since(began); want == http.StatusNotModified && took != 20*time.Second {
					t.Errorf("it waited %v, want 20 s", took)
				}
				if got := ask(h, "GET", "/api/v1/"+path+"?wait=20&index="+index, ""); got.StatusCode != http.StatusOK || got.Header.Get("X-Saltpeter-Index") == index {
					t.Errorf("newer than %s: status %d, index %s", index, got.StatusCode, got.Header.Get("X-Saltpeter-Index"))
				}
			})
		})
	}
}

func TestWaitEndsWithAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := apitest.New()
		h := newServer(t, n).Handler(api.OriginNetwork)
		tag := ask(h, "GET", "/api/v1/maintenance", "").Header.Get("Etag")
		began := time.Now()
		time.AfterFunc(3*time.Second, func() {
			n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeAll, FromMillis: n.Now().UnixMilli()})
		})
		resp := ask(h, "GET", "/api/v1/maintenance?wait=1m", "", "If-None-Match: "+tag)
		if took := time.Since(began); resp.StatusCode != http.StatusOK || took < 3*time.Second || took > 4*time.Second {
			t.Errorf("status %d after %v", resp.StatusCode, took)
		}
	})
}

func TestWaitRefuses(t *testing.T) {
	h := newServer(t, apitest.New()).Handler(api.OriginNetwork)
	for _, query := range []string{"wait=61", "wait=-1s", "wait=soon", "wait=2m", "index=-1", "index=x"} {
		if got := ask(h, "GET", "/api/v1/runs?"+query, "").StatusCode; got != http.StatusBadRequest && got != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d", query, got)
		}
	}
}

// TestMinIndex reads stale with an index that the answer must have: this node's record comes to it, or the leader is asked.
func TestMinIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := apitest.New()
		h := newServer(t, n).Handler(api.OriginNetwork)
		now, err := strconv.Atoi(ask(h, "GET", "/api/v1/runs?consistency=stale", "").Header.Get("X-Saltpeter-Index"))
		if err != nil {
			t.Fatal(err)
		}
		read := func(least string) (status int, took time.Duration) {
			began := time.Now()
			return ask(h, "GET", "/api/v1/runs?consistency=stale", "", "X-Saltpeter-Min-Index: "+least).StatusCode, time.Since(began)
		}
		if status, took := read(strconv.Itoa(now)); status != http.StatusOK || took != 0 {
			t.Errorf("an index that is there: status %d after %v", status, took)
		}
		time.AfterFunc(time.Second, func() { n.AddJob("j", nil) })
		if status, took := read(strconv.Itoa(now + 1)); status != http.StatusOK || took != time.Second {
			t.Errorf("an index that comes after 1 s: status %d after %v", status, took)
		}
		if status, took := read(strconv.Itoa(now + 2)); status != http.StatusConflict || took != 2*time.Second {
			t.Errorf("an index that never comes: status %d after %v", status, took)
		}
		if status, _ := read("x"); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
			t.Errorf("no index: status %d", status)
		}
	})
}

func TestReadsSayWhoAnswers(t *testing.T) {
	n := apitest.New()
	h := newServer(t, n).Handler(api.OriginNetwork)
	head := ask(h, "GET", "/api/v1/runs?consistency=stale", "").Header
	var got []string
	for _, name := range []string{"Served-By", "Leader", "Known-Leader", "Last-Contact"} {
		got = append(got, head.Get("X-Saltpeter-"+name))
	}
	if text := strings.Join(got, " "); text != "sp-1 sp-1 true 40" {
		t.Errorf("headers: %s", text)
	}
	n.SetStatus(func(s *api.NodeStatus) { s.Leader = "" })
	if got := ask(h, "GET", "/api/v1/runs?consistency=stale", "").Header.Get("X-Saltpeter-Known-Leader"); got != "false" {
		t.Errorf("without a leader: %q", got)
	}
}
