package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"

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
	var stood *state.Revoked
	if len(s.Mark) == 0 {
		stood = s.Revoked // no mark of our own has shown that the log is the one of that time
	}
	if err := s.recover(ctx, audit.Event{RequestID: c.id, Source: c.source.String()}, bastion, mark.Tree, have, stood); err != nil {
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
	return s.recover(ctx, audit.Event{}, s.Node, mark.Tree, have, s.Revoked)
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

// recover voids everything that the missing part of the log may have decided, revokes again what is known to have stood
// revoked at its end (nil: nothing is known), and says so in the log, once for each mark. e says which request brought the mark.
func (s *Server) recover(ctx context.Context, e audit.Event, by string, mark tlog.Tree, have int64, stood *state.Revoked) error {
	known := false
	var forgotten state.Revoked
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if known, err = state.MarkKnown(ctx, tx, mark.N, mark.Hash.String()); err == nil && stood != nil {
			forgotten, err = state.Forgotten(ctx, tx, *stood)
		}
		return err
	})
	if err != nil || known {
		return unavailable(err)
	}
	s.Logger.Error("the log is behind a mark that somebody remembers: voiding all", "by", by, "remembered", mark.N, "have", have)
	e.V, e.ID, e.Time, e.Kind, e.Outcome, e.Actor = 1, audit.NewID(), s.Now().UTC(), audit.KindLogRecovery, audit.Success, audit.Actor{Kind: audit.ActorSystem}
	e.Action, e.Resource, e.PolicyDigest, e.PolicyIDs, e.Node = api.NewID("act_"), "log/"+s.Node, s.Policy.Set().Digest(), []string{}, s.Node
	err = setDetails(&e, map[string]any{"remembered_size": mark.N, "remembered_root": mark.Hash.String(), "restored_size": have, "reported_by": by,
		"effect": "every session and certificate is void; serials start a new era", "revoked_again": revokedAgain(stood, forgotten)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	_, err = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(state.UseMark(ctx, tx, mark.N, mark.Hash.String()), state.Recover(ctx, tx, s.Now()), state.RevokeAgain(ctx, tx, forgotten, tx.Next, s.Now()))
	})
	if err != nil && !errors.Is(err, state.ErrExists) { // another came with the same mark
		return unavailable(err)
	}
	s.serials.forget()
	return nil
}

// maxNamed bounds how many of a kind the event of a recovery names.
const maxNamed = 1000

// revokedAgain is what that event says of what was revoked again, nil where nobody knows what stood revoked.
func revokedAgain(stood *state.Revoked, f state.Revoked) any {
	if stood == nil {
		return nil
	}
	people, hosts, certs := []string{}, []string{}, []string{}
	for _, b := range f.People[:min(len(f.People), maxNamed)] {
		people = append(people, b.Issuer+" "+b.Subject+" "+b.Email)
	}
	for _, b := range f.Hosts[:min(len(f.Hosts), maxNamed)] {
		hosts = append(hosts, b.Host)
	}
	for _, c := range f.Certs[:min(len(f.Certs), maxNamed)] {
		certs = append(certs, c.Profile+" "+strconv.FormatUint(c.Serial, 10))
	}
	return map[string]any{"people": people, "hosts": hosts, "certificates": certs, "number": len(f.People) + len(f.Hosts) + len(f.Certs)}
}
