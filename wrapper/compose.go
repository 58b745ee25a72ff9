//go:build !crashpoints

package wrapper

// compose is where a test build puts its decorators around the parts; the product has none.
func compose(p Parts) Parts { return p }
