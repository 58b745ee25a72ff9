//go:build !baseprogram

package fsm

// newestKnown is the highest code that this build takes.
const newestKnown = NewestCode
