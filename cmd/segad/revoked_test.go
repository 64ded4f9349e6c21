package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
)

// silentLog takes no append, as a database that was set back beneath the process.
type silentLog struct{ store.Log }

func (silentLog) Append(context.Context, []audit.Event, func(context.Context, store.Tx) error) (int64, error) {
	return 0, store.ErrUnavailable
}

// TestRevokedFile: the file follows what stands revoked, and a database that does not answer changes nothing of it.
func TestRevokedFile(t *testing.T) {
	key, err := audit.GenerateLogKey("sega.test/log")
	if err != nil {
		t.Fatal(err)
	}
	log, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	write := func(apply func(context.Context, store.Tx) error) {
		t.Helper()
		if _, err := log.Append(t.Context(), nil, apply); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "broker.yaml.mark.revoked")
	if known, err := readRevoked(path); known != nil || err != nil {
		t.Errorf("before any run: %+v, %v", known, err)
	}
	r := &revoked{path: path, log: log, logger: slog.New(slog.DiscardHandler)}
	step := func(at string, people, certs int) {
		t.Helper()
		if err := r.note(t.Context(), []byte(at)); err != nil {
			t.Fatal(err)
		}
		known, err := readRevoked(path)
		if err != nil || len(known.People) != people || len(known.Certs) != certs {
			t.Errorf("at %s: %+v, %v; want %d people, %d certificates", at, known, err, people, certs)
		}
	}
	step("1", 0, 0)
	write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, "https://idp.example", "alice", "https://idp.example", "sam", "leaves")
	})
	step("1", 0, 0) // nothing was logged
	step("2", 1, 0)
	write(func(ctx context.Context, tx store.Tx) error {
		return state.RevokeCert(ctx, tx, state.RevokedCert{Profile: "host", Serial: 7, ValidBefore: time.Unix(2e9, 0)})
	})
	step("3", 1, 1)
	r.log = silentLog{log}
	write(func(ctx context.Context, tx store.Tx) error {
		return state.UnblockSubject(ctx, tx, "https://idp.example", "alice")
	})
	step("4", 1, 1)
	r.log = log
	step("4", 0, 1) // asked again
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != revokedMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	r.path = filepath.Join(path, "below a file")
	write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, "https://idp.example", "alice", "", "", "")
	})
	if err := r.note(t.Context(), []byte("5")); err == nil {
		t.Error("noted where nothing can be")
	}
}

// TestRevokedFileRefused: a broker does not start on half a file.
func TestRevokedFileRefused(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "null": "null", "half": `{"people":[{"iss":"a"`, "another": `{"access":"ssh-ed25519 AAAA"}`, "a list": "[]"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "revoked")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if known, err := readRevoked(path); err == nil || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("%+v, %v", known, err)
			}
		})
	}
}
