package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxCheckpoint bounds the bytes of a signed checkpoint; one of ours has under 300.
const maxCheckpoint = 64 << 10

// Checkpoint is what a log commits to by signing (C2SP tlog-checkpoint): its name and its tree.
type Checkpoint struct {
	Origin string
	Tree   tlog.Tree
}

// ErrCheckpoint means that a checkpoint is malformed or not signed by the pinned key of the log.
var ErrCheckpoint = errors.New("audit: not a checkpoint of this log")

// Text returns the note's text: three lines, of which the last ends in a newline too.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Tree.N, 10) + "\n" + c.Tree.Hash.String() + "\n"
}

// SignCheckpoint returns the signed note. The origin must be the name of the signer's key.
func SignCheckpoint(origin string, tree tlog.Tree, signer note.Signer) ([]byte, error) {
	if origin != signer.Name() {
		return nil, fmt.Errorf("audit: sign checkpoint: origin %q is not the key's name %q", origin, signer.Name())
	}
	msg, err := note.Sign(&note.Note{Text: Checkpoint{Origin: origin, Tree: tree}.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("audit: sign checkpoint: %w", err)
	}
	return msg, nil
}

// OpenCheckpoint verifies a signed note with the log's pinned key, whose name is the origin it must
// carry, and parses it. Signatures of other keys (of witnesses) are ignored; extension lines, which
// this log does not write, are an error. Errors wrap ErrCheckpoint.
func OpenCheckpoint(msg []byte, verifier note.Verifier) (Checkpoint, error) {
	if len(msg) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes, at most %d", ErrCheckpoint, len(msg), maxCheckpoint)
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: key %s: %w", ErrCheckpoint, verifier.Name(), err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if c.Origin != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("%w: origin %.80q, want %q", ErrCheckpoint, c.Origin, verifier.Name())
	}
	return c, nil
}

// parseCheckpoint accepts exactly what Text writes.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, fmt.Errorf("%d lines, want 3", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("size %.40q is not a number of events", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("root %.80q is not the base64 of a SHA-256", lines[2])
	}
	c := Checkpoint{Origin: lines[0], Tree: tlog.Tree{N: size, Hash: tlog.Hash(root)}}
	switch {
	case c.Origin == "":
		return Checkpoint{}, errors.New("origin is empty")
	case c.Text() != text:
		return Checkpoint{}, errors.New("not in canonical form")
	case size == 0 && c.Tree.Hash != EmptyRoot():
		return Checkpoint{}, errors.New("root of the empty tree is wrong")
	}
	return c, nil
}
