package broker

import (
	"context"
	"encoding/base64"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// checkMark compares our log with the newest checkpoint that the bastion remembers. A mark of
// ours that we no longer know means that the database was restored from a backup: whatever was
// decided in the gap is void (R10). The bastion goes on when somebody there has accepted the log as it is.
func (s *Server) checkMark(ctx context.Context, c *call, bastion string) error {
	note, err := base64.StdEncoding.DecodeString(c.request.Header.Get(api.HeaderCheckpoint))
	if err != nil {
		return api.Errorf(api.KindInvalid, "the checkpoint is not base64")
	}
	if len(note) == 0 {
		return nil
	}
	mark, err := audit.OpenCheckpoint(note, s.logVerifier)
	if err != nil {
		return api.Errorf(api.KindInvalid, "the checkpoint was not signed by this log").WithCause(err)
	}
	have, held, err := s.holds(ctx, mark.Tree)
	if err != nil || held {
		return err
	}
	if mark.Tree.N <= s.voided {
		return restored(mark.Tree.N)
	}
	if err := s.recover(ctx, audit.Event{RequestID: c.id, Source: c.source.String()}, bastion, mark.Tree, have); err != nil {
		return err
	}
	return restored(mark.Tree.N)
}

func restored(size int64) error {
	return api.Errorf(api.KindConflict, "the broker's log was restored from a backup and has voided every session: it has not the %d events that you remember", size).
		WithHint("check the broker's log.recovery events, then restart the bastion with --accept-new-log")
}

// checkOwnMark compares the log with the newest checkpoint that an earlier run of this node has seen.
func (s *Server) checkOwnMark(ctx context.Context) error {
	if len(s.Mark) == 0 {
		return nil
	}
	mark, err := audit.OpenCheckpoint(s.Mark, s.logVerifier)
	if err != nil {
		return err
	}
	have, held, err := s.holds(ctx, mark.Tree)
	if err != nil || held {
		return err
	}
	s.voided = mark.Tree.N
	return s.recover(ctx, audit.Event{}, s.Node, mark.Tree, have)
}

// holds reports whether the log is a continuation of a tree that somebody remembers, and its size.
func (s *Server) holds(ctx context.Context, mark tlog.Tree) (have int64, held bool, err error) {
	tree, err := s.treeWith(ctx, mark.N) // another broker may have shown a newer one than we know of
	if err != nil || mark.N > tree.N {
		return tree.N, false, err
	}
	root, err := store.Root(ctx, s.Log, mark.N)
	return tree.N, root == mark.Hash, unavailable(err)
}

// recover voids everything that the missing part of the log may have decided, and says so in the
// log, once for each mark. e says which request brought the mark.
func (s *Server) recover(ctx context.Context, e audit.Event, by string, mark tlog.Tree, have int64) error {
	known := false
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		known, err = state.MarkKnown(ctx, tx, mark.N, mark.Hash.String())
		return err
	})
	if err != nil || known {
		return unavailable(err)
	}
	s.Logger.Error("the log is behind a mark that somebody remembers: voiding all", "by", by, "remembered", mark.N, "have", have)
	e.V, e.ID, e.Time, e.Kind, e.Outcome, e.Actor = 1, audit.NewID(), s.Now().UTC(), audit.KindLogRecovery, audit.Success, audit.Actor{Kind: audit.ActorSystem}
	e.Action, e.Resource, e.PolicyDigest, e.PolicyIDs, e.Node = api.NewID("act_"), "log/"+s.Node, s.Policy.Set().Digest(), []string{}, s.Node
	err = setDetails(&e, map[string]any{"remembered_size": mark.N, "remembered_root": mark.Hash.String(), "restored_size": have, "reported_by": by,
		"effect": "every session and certificate is void; serials start a new era"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	_, err = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(state.UseMark(ctx, tx, mark.N, mark.Hash.String()), state.Recover(ctx, tx, s.Now()))
	})
	if err != nil && !errors.Is(err, state.ErrExists) { // another came with the same mark
		return unavailable(err)
	}
	s.serials.forget()
	return nil
}
