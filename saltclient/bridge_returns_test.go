package saltclient

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What Salt 3006 to 3008 really put into returns.
func TestDecodeReturn(t *testing.T) {
	for _, c := range []struct {
		json string
		want Return
	}{
		{`{"return": {"pid": 1, "retcode": 7, "stdout": "out", "stderr": "err"}, "retcode": 7, "success": false}`, Return{Code: 7, Stdout: "out", Stderr: "err"}},
		{`{"return": {"stdout": "['sleep', '5'] : Timed out after 1 seconds", "stderr": "", "retcode": 1, "pid": 2}, "retcode": 0, "success": true}`,
			Return{Code: 1, Success: true, Stdout: "['sleep', '5'] : Timed out after 1 seconds"}},
		{`{"return": {"pid": 2535, "retcode": null, "stdout": "", "stderr": ""}, "retcode": 0}`, Return{Success: true}},
		{`{"return": "'nosuch.fun' is not available.", "out": "nested", "retcode": 1, "success": false}`, Return{Code: 1, Refused: "'nosuch.fun' is not available."}},
		{`{"return": "ERROR: User 'x' is not available", "retcode": 1}`, Return{Code: 1, Success: true, Refused: "ERROR: User 'x' is not available"}},
		{`{"return": "hi", "retcode": 0, "success": true}`, Return{Success: true, Stdout: "hi"}},
		{`{"return": {"id": "m", "pid": 4}, "retcode": 3, "success": false}`, Return{Code: 3, Stdout: `{"id": "m", "pid": 4}`}},
		{`{"return": true, "retcode": 0}`, Return{Success: true, Stdout: "true"}},
		{`{"return": null}`, Return{Success: true}},
		{`{}`, Return{Success: true}},
		{`{"return": [1], "retcode": -9, "success": false}`, Return{Code: -9, Stdout: "[1]"}},
	} {
		var r minionReturn
		if err := json.Unmarshal([]byte(c.json), &r); err != nil {
			t.Fatal(err)
		}
		if got := r.decode(); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.json, got, c.want)
		}
	}
}

func FuzzDecodeReturn(f *testing.F) {
	f.Add([]byte(`{"minion": "m", "return": {"stdout": 1}, "retcode": 7}`))
	f.Add([]byte(`{"return": {"stdout": "x", "retcode": "7"}}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var r minionReturn
		if json.Unmarshal(b, &r) == nil {
			r.decode()
		}
	})
}

func TestReturnsAreBounded(t *testing.T) {
	r := newReturns()
	big := minionReturn{Minion: "m", Return: json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}
	for i := range returnsBytes>>20 + 10 {
		r.add(fmt.Sprint("big", i), big)
	}
	if r.bytes > returnsBytes || len(r.jobs) != len(r.order) || len(r.list("big0")) != 0 || len(r.list(r.order[len(r.order)-2])) != 1 {
		t.Errorf("%d bytes of %d jobs", r.bytes, len(r.jobs))
	}
	for i := range returnsJobs + 10 {
		r.expect(fmt.Sprint(i), []string{"m"})
	}
	if len(r.jobs) != returnsJobs || len(r.order) != returnsJobs || r.bytes != 0 {
		t.Errorf("%d jobs, %d bytes", len(r.jobs), r.bytes)
	}
}

func TestReturnsAreLookedUpWhereTheyAreNotAll(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newReturns()
	if !r.ask("unknown", now) || r.ask("unknown", now) {
		t.Error("an unknown id is looked up at once, and not again at once")
	}
	r.asked("unknown", time.Second)
	if r.ask("unknown", now.Add(19*time.Second)) || !r.ask("unknown", now.Add(20*time.Second)) {
		t.Error("a slow lookup is made rarer")
	}
	r.expect("1", []string{"a", "b"})
	r.add("1", minionReturn{Minion: "a"})
	if !r.ask("1", now) {
		t.Error("one is missing")
	}
	r.add("1", minionReturn{Minion: "b"})
	if r.ask("1", now.Add(time.Hour)) {
		t.Error("all are there")
	}
	r.add("1", minionReturn{Minion: "b", Return: json.RawMessage(`"later"`)})
	if got := r.list("1"); len(got) != 2 || got[0].Minion != "a" || got[1].Stdout != "" {
		t.Errorf("got %+v", got)
	}
}
