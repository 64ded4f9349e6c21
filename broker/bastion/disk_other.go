//go:build !linux && !darwin

package bastion

import "math"

// measureDisk: where bastions do not run, nothing is measured, and a write that finds no room ends its
// session.
func measureDisk(string) func() (room, error) {
	return func() (room, error) { return room{math.MaxUint64, math.MaxUint64}, nil }
}
