package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"sega/audit/store"
	"sega/broker/state"
	"sega/keychain/atomicfile"
)

// revokedMode keeps names and reasons from others.
const revokedMode = 0o600

// revoked is a file outside of the database: what stands revoked. A restored database gets it back from there, since the
// log that tells of it lies in the same database and was lost with it (design R10).
type revoked struct {
	path    string
	log     store.Log
	logger  *slog.Logger
	at      []byte // checkpoint when it was looked at last
	last    state.Revoked
	written []byte
}

// readRevoked returns what an earlier run has left, nil where there was none.
func readRevoked(path string) (*state.Revoked, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r *state.Revoked
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		err = d.Decode(&r)
	}
	if err == nil && r == nil {
		err = errors.New("it holds null")
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which says what is revoked: %w\nremove it if the database was not restored: it is written anew; else restore it, or remove it and revoke again by hand", path, err)
	}
	return r, nil
}

// errLooked ends an append that was only to look.
var errLooked = errors.New("looked")

// note writes what stands revoked, if the log has moved on to a checkpoint and that has changed. A database that does not
// answer is told and asked again: the file that is there is older, and no less true of its time.
func (r *revoked) note(ctx context.Context, checkpoint []byte) error {
	if bytes.Equal(checkpoint, r.at) {
		return nil
	}
	now, err := r.look(ctx)
	if err != nil {
		r.logger.Error("what is revoked was not noted", "error", err)
		return nil
	}
	data, err := json.MarshalIndent(now, "", " ")
	if err != nil {
		return err
	}
	if !bytes.Equal(data, r.written) {
		if err := atomicfile.Replace(r.path, append(data, '\n'), revokedMode); err != nil {
			return fmt.Errorf("note what is revoked: %w\nname a file in a folder that the broker can write to: mark", err)
		}
	}
	r.at, r.last, r.written = checkpoint, now, data
	return nil
}

// look reads as an append does: what a database says that was set back beneath this process must not take the place of
// what is known.
func (r *revoked) look(ctx context.Context) (now state.Revoked, err error) {
	_, err = r.log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) (err error) {
		if now, err = state.RevokedNow(ctx, tx, r.last); err != nil {
			return err
		}
		return errLooked
	})
	if errors.Is(err, errLooked) {
		err = nil
	}
	return now, err
}
