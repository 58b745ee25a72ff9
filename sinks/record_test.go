package sinks

import (
	"errors"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

func TestStamp(t *testing.T) {
	// What Python gives for str(datetime.fromtimestamp(ms/1000, timezone.utc)).
	for millis, want := range map[int64]string{
		t0:            "2026-11-23 04:26:08+00:00",
		t0 + 338:      "2026-11-23 04:26:08.338000+00:00",
		t0 + 1:        "2026-11-23 04:26:08.001000+00:00",
		0:             "1970-01-01 00:00:00+00:00",
		951827696789:  "2000-02-29 12:34:56.789000+00:00",
		4102444799999: "2099-12-31 23:59:59.999000+00:00",
	} {
		if got := stamp(millis); got != want {
			t.Errorf("stamp(%d) = %q, want %q", millis, got, want)
		}
	}
	t.Setenv("TZ", "America/New_York")
	if got := stamp(t0); !strings.HasSuffix(got, "+00:00") {
		t.Errorf("the zone of the host shows: %q", got)
	}
}

// TestRecords holds each record against the Python program's format of it: the format strings of its log(), filled in.
func TestRecords(t *testing.T) {
	const inst, at = "backup_1795407968", "2026-11-23 04:26:08.338000+00:00"
	ref := func(target uint32) saltpeter.TargetRef { return saltpeter.TargetRef{Run: 7, Target: target} }
	head := func(code string) string {
		return "########## web1 from " + inst + " ################\n**** Exit Code " + code + " ******\n"
	}
	const tail = "\n####### END web1 from " + inst + " at " + at + " #########\n"
	result := func(target uint32, state saltpeter.TargetState, code int, text string) saltpeter.Event {
		return saltpeter.Event{Type: saltpeter.EventMachineResult, Machine: "web1", Ref: ref(target), Code: code, State: state.String(), Text: text}
	}
	outputs := map[uint32]string{1: "hello\nworld\n", 2: "no newline", 3: "10%\r50%\r100%\r\ndone\r\n", 4: "part", 5: "\xff\x00\xfe\n"}
	again := result(1, saltpeter.OK, 0, "")
	again.Again = true
	tests := []struct {
		name string // of the Python program's record, where it has one
		e    saltpeter.Event
		want string
	}{
		{"start", saltpeter.Event{Type: saltpeter.EventRunClaimed}, "###### Starting " + inst + " at " + at + " ################\n"},
		{"machine_start", saltpeter.Event{Type: saltpeter.EventMachineStarted, Machine: "web1"}, "###### Starting " + inst + " on web1 at " + at + " ################\n"},
		{"overlap names the running instance", saltpeter.Event{Type: saltpeter.EventOverlap, Text: inst}, "###### Overlap detected on " + inst + " at " + at + " ################\n"},
		{"no_machines", saltpeter.Event{Type: saltpeter.EventNoTargets, Text: "nothing matched"}, "!!!!!! No targets matched for " + inst + " !!!!!!\n"},
		{"test_ping_failed", saltpeter.Event{Type: saltpeter.EventLauncherError, Text: "no master\nat all"}, "!!!!!! SALT-MASTER ERROR during test.ping for " + inst + " at " + at + " !!!!!!\nno master\nat all\n"},
		{"test_ping_failed, text is CR-processed too", saltpeter.Event{Type: saltpeter.EventLauncherError, Text: "a\rb\r"}, "!!!!!! SALT-MASTER ERROR during test.ping for " + inst + " at " + at + " !!!!!!\nb\n"},
		{"end", saltpeter.Event{Type: saltpeter.EventRunFinished, Code: 1, State: "failed"}, "###### Finished " + inst + " at " + at + " ################\n"},
		{"maintenance", saltpeter.Event{Type: saltpeter.EventMachineMaintenance, Machine: "web1", Ref: ref(1), Text: "maintenance of all"}, head("0") + "Target under maintenance" + tail},
		{"machine_result", result(1, saltpeter.OK, 0, ""), head("0") + "hello\nworld\n" + tail},
		{"machine_result, a second one", again, head("0") + "hello\nworld\n" + tail},
		{"machine_result without newline", result(2, saltpeter.Failed, 3, ""), head("3") + "no newline" + tail},
		{"machine_result, CR", result(3, saltpeter.Failed, 252, ""), head("252") + "100%\ndone\n" + tail},
		{"machine_result, any bytes", result(5, saltpeter.OK, 0, ""), head("0") + "\xff\x00\xfe\n" + tail},
		{"machine_result without output", result(0, saltpeter.OK, 0, ""), head("0") + tail},
		{"machine_result, negative code of an old wrapper", result(0, saltpeter.Failed, -15, ""), head("-15") + tail},
		{"machine_result of a machine that is down", result(0, saltpeter.Unreachable, 255, "web1 did not respond: no answer"), head("255") + "Target did not respond" + tail},
		{"machine_result, 254 with its reason", result(0, saltpeter.NotStarted, 254, "launch failed: x"), head("254") + "launch failed: x" + tail},
		{"machine_result, killed by the user", result(4, saltpeter.Killed, 143, ""), head("143") + "part\n[Job terminated by user request]\n" + tail},
		{"machine_result, killed before execution", result(0, saltpeter.Killed, 143, "killed before it was started, by ann"), head("143") + "\n[killed before it was started, by ann]\n" + tail},
		{"machine_result, timeout", result(4, saltpeter.TimedOut, 124, ""), head("124") + "part\n[Job exceeded timeout]\n" + tail},
		{"machine_result, lost", result(4, saltpeter.Lost, 253, "no heartbeat for 1m0s"), head("253") + "part\n[SALTPETER ERROR: Job lost connection - no heartbeat for 1m0s]\n" + tail},
		{"ours: a remark on a result with output", result(4, saltpeter.Failed, 1, "no such\ruser"), head("1") + "part\n[user]\n" + tail},
		{"ours: soft timeout", saltpeter.Event{Type: saltpeter.EventSoftTimeout, Machine: "web1"}, "!!!!!! Soft timeout of " + inst + " on web1 at " + at + " !!!!!!\n"},
		{"nothing", saltpeter.Event{Type: saltpeter.EventSkipped, State: "maintenance"}, ""},
		{"nothing", saltpeter.Event{Type: saltpeter.EventRunKilled, Actor: "ann"}, ""},
		{"nothing", saltpeter.Event{Type: saltpeter.EventConfigApplied}, ""},
		{"nothing", saltpeter.Event{Type: saltpeter.EventWindowSet}, ""},
		{"nothing for a type that this version doesn't know", saltpeter.Event{Type: 200}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, l := newLogs(t)
			for target, text := range outputs {
				n.outputs[ref(target)] = text
			}
			tt.e.Job, tt.e.Run, tt.e.Millis = "backup", inst, t0+338
			n.add(tt.e)
			drain(t, l)
			if tt.want == "" {
				if got, err := l.disk.read(n.dir + "/backup.log"); err == nil {
					t.Fatalf("a record was written: %q", got)
				}
				return
			}
			wantLog(t, n, "backup", tt.want)
		})
	}
}

// TestOutput: what is missing of the output is said where it is missing.
func TestOutput(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 100_000) // 1.6 MB
	wide := strings.Repeat("x", 3*maxSegment+17)
	tests := []struct {
		name, output string
		gaps         []Gap
		err          error
		want         string
	}{
		{"long", long, nil, nil, long},
		{"one wide line", wide, nil, nil, wide},
		{"a wide line overwritten", wide + "\rshort\nnext", nil, nil, "short\nnext"},
		{"a wide line overwrites", "short\r" + wide + "\r\nnext", nil, nil, wide + "\nnext"},
		{"wide lines", wide + "\r" + wide + "y\r\n\r\n" + wide, nil, nil, wide + "y\n\n" + wide},
		{"gap", "headtail", []Gap{{4, 1000}}, nil, "head\n[1000 bytes left out]\ntail"},
		{"gap ends a line", "a\rhead\rtail", []Gap{{6, 5}}, nil, "head\n[5 bytes left out]\ntail"},
		{"gaps at both ends", "mid", []Gap{{0, 1}, {3, 2}}, nil, "\n[1 bytes left out]\nmid\n[2 bytes left out]\n"},
		{"gaps in one place", "mid", []Gap{{1, 1}, {1, 2}}, nil, "m\n[1 bytes left out]\n\n[2 bytes left out]\nid"},
		{"gap after a long beginning", long + "tail", []Gap{{int64(len(long)), 9}}, nil, long + "\n[9 bytes left out]\ntail"},
		{"gone", "", nil, ErrGone, "[output is gone: the limits of the history have dropped this run]"},
		{"gone meanwhile", "ab\rcd", nil, ErrGone, "cd\n[output is gone: the limits of the history have dropped this run]\n"},
		{"unreadable", "ab\n", nil, errors.New("bad disk"), "ab\n\n[output can't be read: bad disk]\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, l := newLogs(t)
			ref := saltpeter.TargetRef{Run: 1}
			n.outputs[ref], n.gaps[ref], n.errs[ref] = tt.output, tt.gaps, tt.err
			e := saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "j", Run: "j_1", Machine: "m", Ref: ref, State: "ok", Millis: t0}
			n.add(e, finished("j"))
			drain(t, l)
			wantLog(t, n, "j", "########## m from j_1 ################\n**** Exit Code 0 ******\n"+tt.want+
				"\n####### END m from j_1 at 2026-11-23 04:26:08+00:00 #########\n"+endLine("j"))
		})
	}
}
