package fsm

import "github.com/syscollective/saltpeter"

// Every command's result is one of these, or an *Refusal. They are values that may travel over the node link.

// Refusal is a command's answer when nothing was changed because it may not be.
type Refusal struct {
	Code    saltpeter.ErrorCode `cbor:"1,keyasint"`
	Message string              `cbor:"2,keyasint"`
	Hint    string              `cbor:"3,keyasint,omitempty"`
}

// Error turns the refusal into the error that people see.
func (r *Refusal) Error() string { return r.Message }

// AsError gives the refusal as a saltpeter.Error.
func (r *Refusal) AsError() error {
	return &saltpeter.Error{Code: r.Code, Message: r.Message, Hint: r.Hint, Err: r}
}

// Done is the result of commands that have nothing to say.
type Done struct{}

// Claimed is the result of ClaimRuns: one answer per claim, in order.
type Claimed struct {
	Results []saltpeter.ClaimResult
}

// RunStarted is the result of StartRun.
type RunStarted struct {
	Run   uint64
	RunID string
}

// BatchLaunched is the result of LaunchBatch; Launch is nil when nothing is left to launch.
type BatchLaunched struct {
	Launch *saltpeter.Launch
}

// TargetAsked is the result of StartTarget.
type TargetAsked struct {
	Granted bool
	Kill    bool
	Refusal string
}

// Reported is the result of Report: one answer per report, in order.
type Reported struct {
	Answers []saltpeter.ReportAnswer
}

// KillTaken is the result of Kill: how many machines ended at once, and how many are asked to end.
type KillTaken struct {
	Ended   int
	Pending int
}

// WindowTaken is the result of SetWindow.
type WindowTaken struct {
	Window saltpeter.Window
}

// TokenTaken is the result of PutToken and RevokeToken: the token as it is now.
type TokenTaken struct {
	Token saltpeter.Token
}

// Lifted is the result of LiftWindow.
type Lifted struct {
	Count int
	File  bool // a window of the files of that scope and name is still on
}

// Retained is the result of Retain.
type Retained struct {
	Runs, Targets int
	Early         int  // of those runs, how many the limits by age and number would have kept: the totals are hard
	More          bool // the limits are still exceeded: propose another
}

// PartTaken is the result of RestorePart.
type PartTaken struct {
	Next int // the part that comes next
}

// Restored is the result of Restore.
type Restored struct {
	Epoch   uint64
	Index   uint64 // of the entry that did it
	Ended   int    // targets that were unfinished
	LeftOut uint64 // bytes of output that the record speaks of and nobody has
}
