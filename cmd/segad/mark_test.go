package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// headLog is a log of which only the head is asked.
type headLog struct {
	store.Log
	head string
}

func (l *headLog) Head() ([]byte, tlog.Tree) { return []byte(l.head), tlog.Tree{} }

func TestMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "broker.yaml.mark")
		if data, err := readMark(path); err != nil || data != nil {
			t.Errorf("before any run: %q, %v", data, err)
		}
		log := &headLog{head: "first"}
		m := &mark{path: path, log: log, revoked: &revoked{log: silentLog{}, logger: slog.New(slog.DiscardHandler)}}
		want := func(text string) {
			t.Helper()
			if data, err := readMark(path); err != nil || string(data) != text {
				t.Errorf("noted %q, %v; want %q", data, err, text)
			}
		}
		if err := m.note(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("first")
		ctx, cancel := context.WithTimeout(t.Context(), markEvery*5/2)
		defer cancel()
		log.head = "second"
		if err := m.keep(ctx, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		want("second")
		log.head = "third"
		m.path = filepath.Join(path, "below a file")
		if err := m.note(t.Context()); err == nil {
			t.Error("noted where nothing can be")
		}
		want("second")
		m.path = path
		if err := m.note(t.Context()); err != nil { // what failed is tried again
			t.Fatal(err)
		}
		want("third")
		if _, err := readMark(filepath.Join(path, "x")); err == nil || os.IsNotExist(err) {
			t.Errorf("a mark that cannot be read: %v", err)
		}
	})
}
