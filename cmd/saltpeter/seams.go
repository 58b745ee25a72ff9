//go:build !crashpoints

package main

import "github.com/syscollective/saltpeter/app"

// compose is where a test build puts its decorators around a node's parts; the product has none.
func compose(*app.Options) error { return nil }
