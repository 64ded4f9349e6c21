package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"sega/audit/store"
	"sega/keychain/atomicfile"
)

// markEvery is how much of the log a broker that dies at once may not have noted.
const markEvery = time.Second

// markLast is how long a broker that ends waits for its database to say what stands revoked.
const markLast = 5 * time.Second

// markMode lets others witness the checkpoint, which is public.
const markMode = 0o644

// mark is the file of the newest checkpoint that this broker has seen, kept outside of the database: a
// database that was set back does not know that it was (design R10).
type mark struct {
	path    string
	log     store.Log
	revoked *revoked
	written []byte
}

// readMark returns what an earlier run has left, nil where there was none.
func readMark(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// note writes the newest checkpoint, if there is a newer one, and before it what stands revoked: who remembers how long
// the log was knows what it said of that.
func (m *mark) note(ctx context.Context) error {
	checkpoint, _ := m.log.Head()
	if err := m.revoked.note(ctx, checkpoint); err != nil {
		return err
	}
	if bytes.Equal(checkpoint, m.written) {
		return nil
	}
	if err := atomicfile.Replace(m.path, checkpoint, markMode); err != nil {
		return fmt.Errorf("note the newest checkpoint: %w\nname a file in a folder that the broker can write to: mark", err)
	}
	m.written = checkpoint
	return nil
}

// keep notes the newest checkpoint once a second until ctx ends. A failure is told and tried again: the file that
// is there is older, and still a mark.
func (m *mark) keep(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.note(ctx); err != nil {
			log.Error("mark not written", "error", err)
		}
	}
}
