package fsm

// BaseCode is the highest of the codes that every program knows which ever was: what a member is taken to know as long as it
// has not said more.
const BaseCode = CodeBeginEpoch

// Knowledge is what a program understands of a log and a snapshot. A node says it when it asks to be admitted and in its record;
// what is not set counts as the least that ever was.
type Knowledge struct {
	Commands int `cbor:"1,keyasint,omitempty" json:"commands"` // highest command code
	Envelope int `cbor:"2,keyasint,omitempty" json:"envelope"` // version of a command's encoding
	Snapshot int `cbor:"3,keyasint,omitempty" json:"snapshot"` // format version
}

// Known is what this program understands.
func Known() Knowledge {
	return Knowledge{Commands: int(newestKnown), Envelope: commandVersion, Snapshot: snapshotVersion}
}

// Covers says whether a program with this knowledge may be given a log that uses commands up to a code.
func (k Knowledge) Covers(code Code) bool {
	return max(k.Commands, int(BaseCode)) >= int(code) && max(k.Envelope, 1) >= commandVersion && max(k.Snapshot, 1) >= snapshotVersion
}

// Knowledge is what the node's program understands, as the node has said.
func (n *NodeRecord) Knowledge() Knowledge {
	return Knowledge{Commands: n.Commands, Envelope: n.Envelope, Snapshot: n.Snapshot}
}

// lookup gives the maker of an empty command, nil if this program doesn't know the code.
func lookup(code Code) func() Command {
	if code > newestKnown {
		return nil
	}
	return newCommand[code]
}
