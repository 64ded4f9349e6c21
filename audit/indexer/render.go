package indexer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"sega/audit/recording"
	"sega/audit/recording/screen"
	"sega/broker/api"
)

// Bounds of what is indexed of one session. What is beyond them is said in its entry.
const (
	maxLines    = 1_000_000
	defaultText = 32 << 20 // bytes
	pieceBytes  = 32 << 10
	defaultWork = 16 << 30 // units of drawing, about half a minute
)

// claim is what the log says of a session's recording.
type claim struct {
	announce recording.Announcement
	heads    []recording.Head
	end      recording.End
}

// parseClaim reads the details of session.start, session.end and recording.heads.
func parseClaim(s api.IndexSession) (claim, error) {
	var start struct {
		Recording recording.Announcement `json:"recording"`
	}
	var end struct {
		Recording *recording.End `json:"recording"`
	}
	if err := json.Unmarshal(s.Start, &start); err != nil || len(start.Recording.PublicKey) != ed25519.PublicKeySize {
		return claim{}, errors.New("no session.start announces a recording")
	}
	if err := json.Unmarshal(s.End, &end); err != nil || end.Recording == nil {
		return claim{}, errors.New("session.end does not say how the recording ended")
	}
	c := claim{announce: start.Recording, end: *end.Recording}
	for _, raw := range s.Heads {
		var head recording.Head
		if err := json.Unmarshal(raw, &head); err != nil {
			return claim{}, errors.New("a head in the log cannot be read")
		}
		c.heads = append(c.heads, head)
	}
	return c, nil
}

// finding is what became of a recording: its text, or why there is none.
type finding struct {
	verdict, detail string
	text            *text // nil where there is none
	later           bool  // what is missing may still come
}

// judge verifies a recording by the log's word and only then opens it. The error is about the
// machine's own disk, or the cause of ctx.
func judge(ctx context.Context, f *os.File, c claim, identities []age.Identity, maxText, maxWork int64) (finding, error) {
	v, err := recording.Verify(f, c.announce, c.heads, &c.end)
	var disk *os.PathError
	switch {
	case errors.As(err, &disk):
		return finding{}, err
	case err != nil: // of a header that this version does not know
		return finding{verdict: VerdictUnreadable, detail: err.Error()}, nil
	}
	if v.Status != recording.StatusComplete && v.Status != recording.StatusOmitted && v.Status != recording.StatusInterrupted {
		return finding{verdict: v.Status, detail: v.Detail, later: v.Status == recording.StatusMissing || strings.HasPrefix(v.Status, "gap ")}, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return finding{}, err
	}
	t, err := render(ctx, f, identities, maxText, maxWork)
	switch {
	case ctx.Err() != nil:
		return finding{}, context.Cause(ctx)
	case errors.Is(err, recording.ErrNoIdentity):
		return finding{verdict: VerdictNoIdentity, detail: "its output was not recorded for this identity"}, nil
	case err != nil:
		return finding{verdict: VerdictUnreadable, detail: err.Error()}, nil
	}
	return finding{verdict: v.Status, text: t}, nil
}

// render draws the text. Whatever the recorded side printed, it harms no other session: it costs a
// bounded amount, and where that is not enough the text is cut.
func render(ctx context.Context, r io.Reader, identities []age.Identity, maxText, maxWork int64) (t *text, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("the text cannot be drawn: %v", p)
		}
	}()
	reader, err := recording.Open(r, identities...)
	if err != nil {
		return nil, err
	}
	// An identity that opens what was typed alone sees nothing of the screen.
	if _, err := age.Decrypt(bytes.NewReader(reader.Header().OutputKey), identities...); err != nil {
		return nil, recording.ErrNoIdentity
	}
	t = &text{most: maxText}
	for line, err := range screen.LinesWithin(ctx, reader, maxWork) {
		if errors.Is(err, recording.ErrInterrupted) {
			break // what is there was judged
		}
		if errors.Is(err, screen.ErrWork) {
			t.cut = true
			break
		}
		if err != nil {
			return nil, err
		}
		if !t.add(line.Text) {
			break
		}
	}
	t.flush()
	return t, nil
}

// text collects lines into pieces. A line is never in two of them.
type text struct {
	most   int64 // bytes
	pieces []string
	lines  int
	bytes  int64
	cut    bool
	piece  strings.Builder
}

// add takes a line and reports whether there is room for more.
func (t *text) add(line string) bool {
	if t.lines >= maxLines || t.bytes+int64(len(line)) > t.most {
		t.cut = true
		return false
	}
	if t.piece.Len() > 0 && t.piece.Len()+len(line) >= pieceBytes {
		t.flush()
	}
	if t.piece.Len() > 0 {
		t.piece.WriteByte('\n')
	}
	t.piece.WriteString(line)
	t.lines++
	t.bytes += int64(len(line))
	return true
}

func (t *text) flush() {
	if t.piece.Len() > 0 {
		t.pieces = append(t.pieces, t.piece.String())
		t.piece.Reset()
	}
}
