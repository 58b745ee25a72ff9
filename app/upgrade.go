package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// errTooOld is under the error of a command that some member's program does not know yet. Who has an older way to do the
// same takes that; for the rest it can wait.
var errTooOld = errors.New("a member's program is too old")

// aboutProgram is what a program says of itself.
type aboutProgram struct {
	Version string        `cbor:"1,keyasint,omitempty"`
	Knows   fsm.Knowledge `cbor:"2,keyasint,omitzero"`
}

func ownProgram() aboutProgram {
	return aboutProgram{Version: buildinfo.Version(), Knows: fsm.Known()}
}

// program is ownProgram as an applicant sends it.
func program() []byte {
	b, _ := cbor.Marshal(ownProgram()) // three numbers and a text: that always works
	return b
}

// programOf reads what an applicant sent. One that can't be read is that of a program which knows the least.
func programOf(b []byte) (p aboutProgram) {
	if cbor.Unmarshal(b, &p) != nil {
		return aboutProgram{}
	}
	return p
}

// record is a node's record with what its program says.
func (p aboutProgram) record(id, name string) fsm.NodeRecord {
	return fsm.NodeRecord{ID: id, Name: name, Version: p.Version, Commands: p.Knows.Commands, Envelope: p.Knows.Envelope, Snapshot: p.Knows.Snapshot}
}

// vetProgram says why a program can't be that of a member: it would halt on the log.
func (a *App) vetProgram(p aboutProgram) (reason string) {
	if used := a.machine.View().Used(); !p.Knows.Covers(used) {
		return fmt.Sprintf("its program (version %s) is older than what this cluster uses: it knows commands up to %d, and %d was used; give it version %s or newer",
			orUnknown(p.Version), max(p.Knows.Commands, int(fsm.BaseCode)), used, buildinfo.Version())
	}
	return ""
}

// proposeFirst commits a command which this cluster has not used yet, if every member knows it. No member comes in meanwhile;
// afterwards vetProgram lets in none that does not know it. Those without a vote count too, since they apply the same log.
func (a *App) proposeFirst(ctx context.Context, prio cluster.Priority, env fsm.Envelope, c fsm.Command) (got any, err error) {
	if !fsm.Known().Covers(c.Code()) { // a build that lacks commands of its own source
		return nil, tooOld(a.opts.Node.Name, buildinfo.Version(), c.Code())
	}
	err = a.node.HoldMembers(ctx, func(members []cluster.Member) error {
		got, err = a.proposeTo(ctx, members, prio, env, c)
		return err
	})
	return got, err
}

// proposeTo is propose for who holds the members still.
func (a *App) proposeTo(ctx context.Context, members []cluster.Member, prio cluster.Priority, env fsm.Envelope, c fsm.Command) (any, error) {
	if c.Code() > a.machine.View().Used() {
		if err := lagging(members, a.machine.View().Nodes(), a.ident.NodeID, c); err != nil {
			return nil, err
		}
	}
	return a.commit(ctx, prio, env, c)
}

// lagging refuses a command that some member does not know, by what the members have said of themselves. Who has said nothing
// knows fsm.BaseCode.
func lagging(members []cluster.Member, records []fsm.NodeRecord, self string, c fsm.Command) error {
	for _, m := range members {
		rec := fsm.NodeRecord{Name: m.ID}
		if i := slices.IndexFunc(records, func(n fsm.NodeRecord) bool { return n.ID == m.ID }); i >= 0 {
			rec = records[i]
		}
		if m.ID != self && !rec.Knowledge().Covers(c.Code()) {
			return tooOld(rec.Name, rec.Version, c.Code())
		}
	}
	return nil
}

// tooOld is the error about a node that doesn't know a command.
func tooOld(node, version string, code fsm.Code) error {
	e := saltpeter.Errorf(saltpeter.CodeConflict, "node %s (%s) doesn't know %s yet: upgrade it first", node, orUnknown(version), commandName(code)).
		WithHint("spctl cluster status shows the versions; a node that is gone for good is taken out by: spctl cluster remove %s", node)
	e.Err = errTooOld
	return e
}

func orUnknown(version string) string {
	if version == "" {
		return "version unknown"
	}
	return version
}

// commandName is a command's name as the golden table has it, or its number.
func commandName(code fsm.Code) string {
	c, err := fsm.DecodeBody(code, []byte{0xa0})
	if err != nil {
		return fmt.Sprintf("command %d", code)
	}
	return strings.TrimPrefix(reflect.TypeOf(c).String(), "*fsm.")
}
