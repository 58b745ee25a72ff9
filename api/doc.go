// Package api serves the HTTP API of a node: JSON under /api/v1, health for load balancers, metrics. Its shapes are
// exported because package client and spctl read them.
//
// It holds no state of its own: reads go to a View of the replicated record, writes to the Node, both declared here
// and given by the composition root. The only goroutines are net/http's, one for each request; Serve owns the server
// and returns when all of them have ended.
//
// Invariants: every error is an application/problem+json whose code is a saltpeter.ErrorCode; every list has limit,
// cursor and next_cursor and is stable while items are added; a read without ?consistency=stale sees every write that
// was acknowledged before; nothing changes the record without an actor.
package api
