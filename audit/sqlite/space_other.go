//go:build !linux && !darwin

package sqlite

// freeBytes does not know.
func freeBytes(string) (free int64, ok bool) { return 0, false }
