// Package saltclient brings launches to Salt's minions: it resolves target expressions, publishes under our own ids, pings,
// and reads keys and returns, through one or several Salt masters.
//
// A Master is one way to one Salt master; a bridge (bridge.go) is one on this host, by Salt's own Python. Masters joins them
// to what the scheduler launches with: it chooses who publishes, goes on to the next where one fails, and keeps each within
// its limits.
//
// Publishing is never the execution here: what a publish starts asks for its command afterwards. So an unclear answer is
// answered by publishing again under the same id, also through another master.
package saltclient
