package krl

import (
	"fmt"

	"sega/keychain/atomicfile"
)

// Replace makes data the content of the file that sshd or ssh reads a KRL from, mode 0644. Whoever reads the
// file meanwhile finds the old content or the new one, whole: a file that is cut off or missing makes sshd refuse
// every key, and an empty one revokes nothing. It returns when the new content would survive a loss of power.
//
// What Parse refuses is not written, and the old file stays.
func Replace(path string, data []byte) error {
	if _, err := Parse(data); err != nil {
		return fmt.Errorf("%s stays as it was: %w", path, err)
	}
	return atomicfile.Replace(path, data, 0o644) // nothing in it is secret, and sshd may read it as another user
}
