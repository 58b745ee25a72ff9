//go:build baseprogram

package fsm

// newestKnown is the highest code that this build takes: the tag makes a program as it was before the first command was added
// after BaseCode, for the test of upgrades (integration/upgrade).
const newestKnown = BaseCode
