// Package launch holds the tests of how wrappers are started on real minions: what is published, how the wrapper gets there, and that
// it proves itself by the minion's own key. They need the rig beside it (make integration).
package launch
