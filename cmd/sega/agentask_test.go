package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
	"sega/cmd/sega/agent"
)

// TestAgentOfOtherSettings: an agent that does not reach the broker by the settings of whoever started it
// does not stand in the way of a shell that has others. By the same settings its problem is everybody's.
func TestAgentOfOtherSettings(t *testing.T) {
	if !agent.Supported {
		t.Skip("NOT TESTED: there is no agent here")
	}
	for name, c := range map[string]struct {
		env     string // of the shell; the agent has none
		kind    api.Kind
		without bool
	}{
		"another CA file":    {"SEGA_CA_FILE=/ca.pem", kindUntrusted, true},
		"another proxy":      {"HTTPS_PROXY=http://proxy:3128", api.KindUnreachable, true},
		"the same":           {"TERM=dumb", api.KindUnreachable, false},
		"a denial is a no":   {"SEGA_CA_FILE=/ca.pem", api.KindDenied, false},
		"so is a revocation": {"SEGA_CA_FILE=/ca.pem", api.KindRevoked, false},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, _, _ := testApp(t)
			a, _, talk := testApp(t, c.env, "SEGA_HOME="+t.TempDir())
			socket, err := a.socket()
			if err != nil {
				t.Fatal(err)
			}
			ready, done := make(chan struct{}), make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			go func() {
				done <- agent.Run(ctx, agent.Config{Socket: socket, Version: "1", Network: theirs.network(), Logger: slog.New(slog.DiscardHandler),
					Open: func(context.Context) (agent.Login, error) { return nil, api.Errorf(c.kind, "no") }}, func() { close(ready) })
			}()
			select {
			case <-ready:
			case err := <-done:
				t.Fatal(err)
			case <-time.After(time.Minute):
				t.Fatal("it does not get ready")
			}
			_, _ = a.askAgent(t.Context(), agent.Request{Op: agent.OpSession}) // it is told once
			_, err = a.askAgent(t.Context(), agent.Request{Op: agent.OpSession})
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := errors.Is(err, errNoAgent); got != c.without || !got && !api.IsKind(err, c.kind) {
				t.Errorf("%v", err)
			}
			if told := strings.Count(talk.String(), "sega agent stop"); told > 1 || (told == 1) != c.without {
				t.Errorf("%q", talk)
			}
		})
	}
}

// TestHeldInWords: credentials of one role are told apart.
func TestHeldInWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	var got bytes.Buffer
	for _, h := range []agent.Held{{Role: "dev", Expires: at}, {Role: "dev", Seconds: 7200, Expires: at}, {Role: "audit", Through: []string{"dev", "ops"}, ReadOnly: true, Expires: at}, {Role: "dev", Narrowed: true, Expires: at}} {
		got.WriteString(heldInWords(h) + "\n")
	}
	want := "dev until " + clock(at) + "\ndev until " + clock(at) + " (asked for 2h)\naudit through dev, ops, read-only until " + clock(at) + "\ndev, narrowed until " + clock(at) + "\n"
	if got.String() != want {
		t.Errorf("%s", &got)
	}
}
