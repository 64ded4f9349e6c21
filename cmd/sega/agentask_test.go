package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sega/broker/api"
	"sega/cmd/sega/agent"
)

// TestStartIsTriedOnce: a command that asks twice does not wait twice for an agent that cannot be started.
func TestStartIsTriedOnce(t *testing.T) {
	if !agent.Supported {
		t.Skip("there are no agents on this system")
	}
	a, _, _ := testApp(t)
	if err := a.writeFile("broker.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := a.home()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "agent"), nil, 0o600); err != nil { // where its folder would be
		t.Fatal(err)
	}
	calls := 0
	ask := func() error {
		return a.withAgent(t.Context(), func(string) (*api.Problem, error) {
			calls++
			return nil, agent.ErrNotRunning
		})
	}
	if err := ask(); !errors.Is(err, errNoAgent) || err == errNoAgent {
		t.Errorf("the first question does not say why there is none: %v", err)
	}
	if err := ask(); err != errNoAgent || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
