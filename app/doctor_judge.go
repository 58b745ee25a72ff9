package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/buildinfo"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/saltclient"
)

const (
	// machineClock is how far a machine's clock may be off before it is worth a warning; nothing but times in its own logs is
	// wrong by it.
	machineClock = 5 * time.Second
	// maxWords is how much is shown of what Salt or a wrapper said. Some versions of Salt put a minion's whole environment after
	// the command that could not be run, which is longer than this.
	maxWords = 160
)

// machineJudge makes checks of what was found about one machine.
type machineJudge struct {
	f     *findings
	m     *machineFacts
	path  string    // of the wrapper that was asked
	began time.Time // by the node's wall clock, when it was asked
	byKey bool      // machines prove themselves by their keys
}

func (j *machineJudge) add(level, check, hint, format string, args ...any) {
	j.f.machine(level, check, j.m.id, hint, format, args...)
}

// salt quotes a target for a command line that a person copies.
func (j *machineJudge) salt(rest string) string {
	return "salt '" + strings.ReplaceAll(j.m.id, "'", `'\''`) + "' " + rest
}

func (j *machineJudge) install() string { return j.salt("state.apply saltpeter.wrapper") }

// judge goes on as long as there is something to say.
func (j *machineJudge) judge() {
	if j.key() && j.ping() && j.returned() {
		j.wrapper()
	}
}

// key judges whether a master knows the machine.
func (j *machineJudge) key() bool {
	m := j.m
	switch {
	case len(m.keys) > 0:
		j.add(api.LevelOK, "key", "", "accepted on %s", strings.Join(slices.Sorted(maps.Keys(m.keys)), ", "))
		return true
	case len(m.failed) > 0:
		j.add(api.LevelFail, "key", "see what is said of the masters", "no master could say whether it has accepted a key: %s", joined(m.failed))
	default:
		j.add(api.LevelFail, "key", "is the id right? salt-key -L lists those that wait; accept it on the master: salt-key -a '"+strings.ReplaceAll(m.id, "'", `'\''`)+"'",
			"no master has accepted a key of minion %s", m.id)
	}
	return false
}

func (j *machineJudge) ping() bool {
	if !j.m.up {
		j.add(api.LevelFail, "ping", "is salt-minion running there? systemctl status salt-minion", "minion %s does not answer test.ping within %s", j.m.id, doctorPing)
		return false
	}
	j.add(api.LevelOK, "ping", "", "answers")
	return true
}

// returned judges whether there is an answer about the wrapper at all.
func (j *machineJudge) returned() bool {
	m := j.m
	switch {
	case m.asked != nil:
		j.add(api.LevelFail, "wrapper", "see what is said of the masters", "it could not be asked about its wrapper: %s", oneLine(m.asked))
	case m.reply == nil:
		j.add(api.LevelFail, "wrapper", "a busy minion returns late: try again; what hinders it is in /var/log/salt/minion there",
			"minion %s answered ping but returned nothing within %s", m.id, doctorAsk)
	case m.reply.Refused != "":
		j.add(api.LevelFail, "wrapper", "the minion must have the execution module cmd, and /bin/sh", "minion %s can't run cmd.run_all: %s", m.id, words(m.reply.Refused))
	case m.reply.Code == saltclient.ExitMissing:
		j.add(api.LevelFail, "wrapper", "install with: "+j.install(), "minion %s answered ping but sp_wrapper is missing (exit 127)", m.id)
	case m.reply.Code == saltclient.ExitUnusable:
		j.add(api.LevelFail, "wrapper", "it is for another architecture, or its file system is mounted noexec: "+j.install(), "%s on %s can't be executed (exit 126)", j.path, m.id)
	default:
		return true
	}
	return false
}

// words gives the beginning of what somebody else said, as one line.
func words(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}

// wrapper judges what the wrapper found.
func (j *machineJudge) wrapper() {
	var c wire.Checkup
	if err := json.Unmarshal([]byte(j.m.reply.Stdout), &c); err != nil || c.Version == "" {
		j.add(api.LevelFail, "wrapper", "it is older than this node: "+j.install(), "%s on %s can't check itself (exit %d): %s", j.path, j.m.id, j.m.reply.Code,
			words(j.m.reply.Stdout+" "+j.m.reply.Stderr))
		return
	}
	switch own := buildinfo.Version(); {
	case c.Protocol != wire.Version:
		j.add(api.LevelFail, "wrapper", "bring both to one release: "+j.install(), "sp_wrapper %s speaks version %d of the protocol, the nodes %d", c.Version, c.Protocol, wire.Version)
	case c.Version != own:
		j.add(api.LevelWarn, "wrapper", "finish the upgrade: "+j.install(), "sp_wrapper is %s, the node %s", c.Version, own)
	default:
		j.add(api.LevelOK, "wrapper", "", "sp_wrapper %s at %s", c.Version, j.path)
	}
	j.ownKey(c.Key)
	if s := c.State; s != nil && s.Error != "" {
		j.add(api.LevelFail, "state", "make it writable for the minion's user, or set sp_wrapper_state in the minion's configuration", "no wrapper can keep its files in %s: %s", s.Path, s.Error)
	}
	j.gateways(c.Gateways)
	j.clock(time.UnixMilli(c.Millis))
}

// ownKey judges the key that the machine would prove itself by.
func (j *machineJudge) ownKey(k *wire.KeyCheck) {
	if !j.byKey || k == nil {
		return
	}
	if k.Error != "" {
		j.add(api.LevelFail, "identity", "run the minion as the user that its key belongs to, or set wrapper_identity: token (docs/security.md says what that gives up)",
			"the wrapper can't prove which machine it is: %s", k.Error)
		return
	}
	var others []string
	for _, master := range slices.Sorted(maps.Keys(j.m.keys)) {
		if !isKey(j.m.keys[master], k.Public) {
			others = append(others, master)
		}
	}
	if len(others) == 0 {
		j.add(api.LevelOK, "identity", "", "its key is the accepted one")
		return
	}
	level := api.LevelWarn
	if len(others) == len(j.m.keys) {
		level = api.LevelFail
	}
	j.add(level, "identity", "another host has this id, or the key was made anew: delete it there (salt-key -d), restart the minion, accept the new one",
		"the key in %s (SHA-256 %s…) is not the one that %s accepted", k.Path, hex.EncodeToString(k.Public[:min(len(k.Public), 8)]), strings.Join(others, ", "))
}

// isKey reports whether an accepted key (PEM) has that digest.
func isKey(text, digest []byte) bool {
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	sum := sha256.Sum256(block.Bytes)
	return bytes.Equal(sum[:], digest)
}

// dialHints says what to do about a gateway that can't be used.
var dialHints = map[string]string{
	wire.DialHost:    "the machine can't resolve its name: give the node an address it can (--advertise, saltpeter_server_host)",
	wire.DialRefused: "is the node up, and does its wrapper port (8889) listen on that address?",
	wire.DialTimeout: "let the machine through to the node's wrapper port (8889): firewall, routes, or a node that stands still",
	wire.DialPin:     "a node with another key file, or of another cluster, answers at that address",
	wire.DialCluster: "a node of another cluster answers at that address",
	wire.DialFailed:  "something else than a Saltpeter node may listen there",
}

// gateways judges whether the machine reaches nodes: one is enough to start, all are what failing over needs.
func (j *machineJudge) gateways(dialed []wire.DialCheck) {
	reached := 0
	for i := range dialed {
		if dialed[i].Result == wire.DialOK {
			reached++
		}
	}
	level := api.LevelFail
	if reached > 0 {
		level = api.LevelWarn
	}
	for i := range dialed {
		if d := &dialed[i]; d.Result != wire.DialOK {
			j.add(level, "gateway", dialHints[d.Result], "%s does not reach %s: %s after %d ms (%s)", j.m.id, d.URL, d.Result, d.Millis, words(d.Detail))
		}
	}
	if reached == len(dialed) {
		j.add(api.LevelOK, "gateway", "", "reaches all %d gateways", reached)
	}
}

// clock compares the machine's clock, read somewhere between the question and its answer, with the node's.
func (j *machineJudge) clock(at time.Time) {
	off := time.Duration(0)
	if behind := at.Sub(j.began); behind < 0 {
		off = behind
	} else if ahead := at.Sub(j.began.Add(j.m.reply.After)); ahead > 0 {
		off = ahead
	}
	if off.Abs() > machineClock {
		j.add(api.LevelWarn, "clock", "check NTP there; starts and outcomes do not depend on it", "the clock of %s is %s off the node's", j.m.id, off.Round(time.Second))
		return
	}
	j.add(api.LevelOK, "clock", "", "agrees with the node's")
}
