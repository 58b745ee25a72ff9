//go:build crashpoints

package main

import (
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/integration/crash/seams"
)

// compose puts crash points around a node's parts.
func compose(o *app.Options) error { return seams.Compose(o) }
