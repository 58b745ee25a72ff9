// Package planted holds bugs: one patch file each, which breaks a promise in the way that a tired hand might, and names
// the tests that must notice. Nothing of them is in the product.
//
// A patch begins with lines "# what: …" and "# caught by: ./package TestName"; then come the changes as a unified diff. The
// numbers of its hunks don't count: what a hunk takes away, with the lines around it, must stand in its file exactly once.
//
// `make test` checks that every patch still fits. `make planted` applies each to a copy of the tree, runs the tests that it
// names, and fails if one of them is still green.
package planted
