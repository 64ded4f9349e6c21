package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"sega/audit/recording"
	"sega/broker/api"
	"sega/broker/client"
)

// viewing is what every look into a recording needs: a key and a reason.
type viewing struct{ identity, reason string }

func viewingFlags(c *cobra.Command, identity, reason *string) {
	c.Flags().StringVar(identity, "identity", "", "file with the reviewer's age identity")
	c.Flags().StringVar(reason, "reason", "", "why you look, for the log; asked for where it is missing")
}

// why returns the reason, asked for on the terminal where there is none.
func (a *app) why(ctx context.Context, given string) (string, error) {
	if given = strings.TrimSpace(given); given != "" {
		return given, nil
	}
	answer, err := a.ask(ctx, "Why do you look into this recording (it goes into the log)? ")
	var usage usageError
	switch {
	case errors.As(err, &usage), err == nil && answer == "":
		return "", usagef("a recording is opened for a reason: --reason TEXT")
	case errors.Is(err, io.EOF):
		return "", errCancelled
	}
	return answer, err
}

// tape is a recording that was fetched and held against the log, with what opens it. It may be read
// any number of times, by several readers at once.
type tape struct {
	*evidence
	verdict    recording.Verdict
	file       *os.File
	identities []age.Identity
}

// openTape fetches a recording for a purpose. It refuses one that is not what the log says of it.
func (a *app) openTape(ctx context.Context, id, purpose string, o viewing) (*tape, error) {
	identities, err := a.identities(o.identity)
	if err != nil {
		return nil, err
	}
	reason, err := a.why(ctx, o.reason)
	if err != nil {
		return nil, err
	}
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	v, err := s.evidenceOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if !v.recorded() { // before anything is fetched, which is an event
		verdict, _ := v.judge(nil)
		return nil, v.unsound(verdict)
	}
	file, err := s.fetch(ctx, client.RecordingRequest{ID: id, Purpose: purpose, Reason: reason}, v.most())
	if api.IsKind(err, api.KindNotFound) {
		return nil, v.unsound(recording.Verdict{Status: recording.StatusMissing, Detail: v.lacks()})
	}
	if err != nil {
		return nil, err
	}
	t := &tape{evidence: v, file: file, identities: identities}
	if err := t.check(); err != nil {
		t.close()
		return nil, err
	}
	if t.verdict.Omissions > 0 {
		fmt.Fprintf(a.err, "sega: policy had bytes of files left out of this recording; what they were says: sega audit query 'session:%s kind:sftp.*'\n", id)
	}
	return t, nil
}

func (t *tape) check() (err error) {
	if t.verdict, err = t.judge(t.file); err != nil {
		return err
	}
	if !t.sound(t.verdict) {
		return t.unsound(t.verdict)
	}
	return nil
}

func (v *evidence) unsound(verdict recording.Verdict) error {
	if verdict.Status == recording.StatusMissing {
		hint := "look for " + v.id + "/ in the bucket of recordings, among its older versions and in backups; what else is missing says: sega audit verify"
		if v.sound(verdict) {
			hint = "how the session went: sega audit show " + v.id
		}
		return withKind(kindUnverified, withHint(fmt.Errorf("the log knows of a recording of %s, and it is missing: %s", v.id, verdict.Detail), "%s", hint))
	}
	return withKind(kindUnverified, fmt.Errorf("the recording of %s is not what the log says: %s: %s", v.id, verdict.Status, verdict.Detail))
}

// close removes the file where the system does not let go of an open one.
func (t *tape) close() { _ = errors.Join(t.file.Close(), unlink(t.file.Name())) }

// reader reads from the start.
func (t *tape) reader() (*recording.Reader, error) {
	info, err := t.file.Stat()
	if err != nil {
		return nil, err
	}
	return recording.Open(io.NewSectionReader(t.file, 0, info.Size()), t.identities...)
}

// mostLive bounds what is fetched of a session of which the log has no end yet.
const mostLive = 64 << 30

// most is how many bytes a recording can have by what the log says of its end.
func (v *evidence) most() int64 {
	if end := v.ended.Recording; end != nil {
		return end.Head.Bytes + end.TailBytes
	}
	return mostLive
}

// fetch downloads a recording, of most bytes at most, into a file that goes with the process, or where
// the system does not remove open files, with the tape.
func (s *session) fetch(ctx context.Context, what client.RecordingRequest, most int64) (*os.File, error) {
	r, err := s.Recording(ctx, what)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	f, err := os.CreateTemp("", "sega-recording-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name())
	if err := keep(f, r, most); err != nil {
		return nil, errors.Join(fmt.Errorf("recording of %s: %w", what.ID, err), f.Close(), unlink(f.Name()))
	}
	return f, nil
}

// keep copies a recording to its file, and refuses one that is longer than it can be.
func keep(f *os.File, r io.Reader, most int64) error {
	n, err := io.Copy(f, io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return err
	case n > most:
		return withKind(kindUnverified, fmt.Errorf("the broker sends more than the %d bytes that the log knows of the recording: it is forged, or still comes", most))
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// unlink removes a file that may have gone already.
func unlink(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// identities reads the reviewer's age identities.
func (a *app) identities(path string) ([]age.Identity, error) {
	path = firstOf(path, a.getenv("SEGA_AUDIT_IDENTITY"))
	if path == "" {
		return nil, usagef("recordings open with a reviewer's identity: --identity FILE, or SEGA_AUDIT_IDENTITY")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	defer func() { _ = f.Close() }()
	ids, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, withKind(kindConfig, withHint(fmt.Errorf("identity %s is not an age identity", path), "name the file of somebody for whom the bastions record: recipients in bastion.yaml"))
	}
	return ids, nil
}
