//go:build linux

package host

import (
	"context"
	"fmt"
	"os"

	"sega/sshca/krl"
)

// fetchKRL fetches the revocation list where it is newer than the one of a version, nil where it is not. A list that
// sshd would not read never reaches it: with one, it lets nobody in.
func fetchKRL(ctx context.Context, m *machine, have int64) ([]byte, int64, error) {
	data, err := m.client.KRL(ctx)
	if err != nil {
		return nil, have, err
	}
	list, err := krl.Parse(data)
	if err != nil {
		return nil, have, fmt.Errorf("the broker's revocation list: %w", err)
	}
	switch version := int64(list.Version); {
	case version < have:
		return nil, have, fmt.Errorf("%w: revocation list %d after %d", errOlder, version, have)
	case version == have:
		return nil, have, nil
	default:
		return data, version, nil
	}
}

// krlVersion is that of the list on the disk, 0 where none lies there.
func (c Config) krlVersion() int64 {
	data, err := os.ReadFile(c.file(krlName))
	if err != nil {
		return 0
	}
	list, err := krl.Parse(data)
	if err != nil {
		return 0
	}
	return int64(list.Version)
}
