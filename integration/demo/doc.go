// Package demo holds the test of deploy/demo/run with real processes: that it starts, that every command which it prints does
// what it says, and that it leaves nothing behind, however it is ended.
package demo
