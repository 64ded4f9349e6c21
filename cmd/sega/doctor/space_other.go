//go:build !linux

package doctor

// space is not known.
func space(string) (free uint64, known bool) { return 0, false }

// noSockets knows of no file system without sockets.
func noSockets(string) string { return "" }
