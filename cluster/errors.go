package cluster

import (
	"errors"
	"fmt"
)

// Sentinels, to be asked for with errors.Is.
var (
	// ErrNotLeader says that the node did not lead and that nothing was appended or handled. errors.As with
	// *NotLeaderError gives the leader, if it is known.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknown says that the outcome is not known: the command may be committed already, later, or never.
	ErrUnknown = errors.New("outcome unknown")
	// ErrClosed says that the node is closed or closing and that nothing was appended or handled.
	ErrClosed = errors.New("node closed")
	// ErrTooLarge says that the commands or the payload exceed what one entry or frame may hold.
	ErrTooLarge = errors.New("too large")
	// ErrNoSuccessor says that no follower with fresh contact could take leadership over; nothing was changed.
	ErrNoSuccessor = errors.New("no follower can take over")
	// ErrStore is in the chain of every error of Run and Open that comes from the log, the stable store or a snapshot.
	ErrStore = errors.New("store failed")
	// ErrStalled is in the chain of Run's error when the watchdog ended the node.
	ErrStalled = errors.New("node stalled")
	// ErrHalted is in the chain of Run's error when the state machine refused an entry.
	ErrHalted = errors.New("state machine halted")
)

// NotLeaderError is ErrNotLeader with what is known of the leader.
type NotLeaderError struct {
	LeaderID   string // empty if unknown
	LeaderAddr string // of its node port; empty if unknown
}

func (e *NotLeaderError) Error() string {
	if e.LeaderID == "" {
		return "not the leader, no leader is known"
	}
	return fmt.Sprintf("not the leader, %s at %s is", e.LeaderID, e.LeaderAddr)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// HandlerError is an error that the leader's Handler returned on another node: only its text crosses the link, and the
// sentinels of this package, which arrive as themselves. What a caller must tell apart belongs into the answer's bytes.
type HandlerError struct{ Text string }

func (e *HandlerError) Error() string { return e.Text }

// unknown wraps a cause as ErrUnknown.
func unknown(cause error) error {
	if errors.Is(cause, ErrUnknown) {
		return cause
	}
	return fmt.Errorf("%w: %w", ErrUnknown, cause)
}
