//go:build linux

package chaos

import (
	"context"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sega/audit"
	"sega/broker/client"
)

// marks keeps the newest checkpoint that any client has seen.
type marks struct {
	verifier note.Verifier

	mu     sync.Mutex
	newest []byte
	size   int64
}

func newMarks(t testing.TB, logKey string) *marks {
	t.Helper()
	v, err := note.NewVerifier(logKey)
	if err != nil {
		t.Fatal(err)
	}
	return &marks{verifier: v}
}

// see is a client's OnCheckpoint.
func (m *marks) see(msg []byte) error {
	c, err := audit.OpenCheckpoint(msg, m.verifier)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Tree.N > m.size {
		m.newest, m.size = append([]byte(nil), msg...), c.Tree.N
	}
	return nil
}

// extended fails unless the broker's log now proves that it still holds all that was seen.
func (m *marks) extended(t testing.TB, c *client.Client) {
	t.Helper()
	m.mu.Lock()
	latest := m.newest
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	w, err := audit.NewWitness(audit.WitnessConfig{Verifier: m.verifier, Latest: latest, Prove: c.Proof, Remember: func([]byte) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := c.Checkpoint(ctx)
	if err == nil {
		err = w.Observe(ctx, msg)
	}
	if err != nil {
		t.Errorf("a checkpoint that clients have seen: %v", err)
	}
}
