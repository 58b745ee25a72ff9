// Package app is where the parts meet: it builds one node from its settings, starts the parts in order and stops them in
// the opposite one. It holds the adapters between packages that do not know each other (record.go, ingest.go,
// control.go) and what only makes sense for a whole node: leadership (lead.go), the configuration's way from files to a
// revision (files.go), housekeeping.
//
// Run owns every goroutine. Three nodes start from it in one test: network, file layer, clocks and launcher can be
// given.
package app
