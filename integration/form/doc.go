// Package form holds the tests of forming a cluster with real processes: three nodes on addresses of the loopback that begin
// with nothing, a cluster begun on one of them, its leader killed, a node removed and one added in its place, while a job
// is due every second.
package form
