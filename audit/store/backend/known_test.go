package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// TestHeadStays: a head that is older than what is known does not take its place.
func TestHeadStays(t *testing.T) {
	var k Known
	newer, older := Head{Tree: tlog.Tree{N: 7}, Stamp: 1}, Head{Tree: tlog.Tree{N: 6}, Stamp: 2}
	k.Advance(newer) // as a follower does for another process's
	k.Advance(older) // as the committer then does for its own, which was committed before
	if got := k.Head(); got.Stamp != newer.Stamp {
		t.Errorf("the head went back to %d events", got.Tree.N)
	}
}

// TestLose: what was set back once stays so, and the first reason is kept.
func TestLose(t *testing.T) {
	var k Known
	log := slog.New(slog.DiscardHandler)
	if k.Lose(log, errors.New("busy")) || k.Err() != nil || k.Readable() != nil {
		t.Error("any error counts as set back")
	}
	first := fmt.Errorf("first: %w", store.ErrSetBack)
	if !k.Lose(log, first) || !k.Lose(log, store.ErrSetBack) || k.Err() != first {
		t.Errorf("it keeps %v", k.Err())
	}
	if err := k.Readable(); !errors.Is(err, store.ErrSetBack) || !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("who reads gets %v", err)
	}
}
