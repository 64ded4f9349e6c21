package broker

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// followEvery is how often a recording that grows is looked at for somebody who follows it. With the
// bastion's interval of uploads it is how far behind he is.
const followEvery = 500 * time.Millisecond

// wanted is what a request asks of a recording.
type wanted struct {
	id, purpose, reason string
	from                int64
	follow              bool
}

// parseWanted reads the parameters of RouteRecording. Whoever looks at content says why; to verify
// is to look at ciphertext.
func parseWanted(r *http.Request) (wanted, error) {
	p := params{v: r.URL.Query()}
	v := wanted{id: r.PathValue("id"), purpose: p.text(api.ParamPurpose), reason: printable(strings.TrimSpace(p.text(api.ParamReason)), 1000),
		from: p.number(api.ParamFrom, 0, 0), follow: p.flag(api.ParamFollow)}
	if err := p.done(); err != nil {
		return v, err
	}
	purposes := []string{api.PurposePlay, api.PurposeExport, api.PurposeTail, api.PurposeVerify}
	if !slices.Contains(purposes, v.purpose) {
		return v, api.Errorf(api.KindInvalid, "the purpose is play, export, tail or verify")
	}
	if v.reason == "" && v.purpose != api.PurposeVerify {
		return v, api.Errorf(api.KindInvalid, "to %s a recording asks for a reason", v.purpose).WithHint("repeat with --reason TEXT")
	}
	if v.follow && v.purpose != api.PurposeTail {
		return v, api.Errorf(api.KindInvalid, "only the purpose tail follows a recording")
	}
	return v, nil
}

// recording hands out a recording as it was stored: ciphertext. Who may play it holds a
// recipient's identity; that he asks, and why, is an event before the first byte.
func (s *Server) recording(ctx context.Context, c *call) (any, error) {
	v, err := parseWanted(c.request)
	if err != nil {
		return nil, err
	}
	of, err := s.recordingOf(ctx, v.id)
	if err != nil {
		return nil, err
	}
	build := func(c *call) operation { return s.reviewing(c, v, of) }
	op := build(c)
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return s.sendRecording(ctx, c, v, of, s.standing(c, authSession, s.mayStill(build)))
	}
	return s.perform(ctx, c, op)
}

// reviewing is the operation of a person who asks for a recording.
func (s *Server) reviewing(c *call, v wanted, of recordingOf) operation {
	around := policy.Context{Reason: v.reason}
	op := s.onRecording(c, policy.ActionReplay, of, around)
	if v.purpose == api.PurposeVerify {
		op = s.onRecording(c, policy.ActionVerifyLog, recordingOf{then: policy.Resource{Type: policy.TypeAuditLog, ID: "all"}}, around)
	}
	id := printable(v.id, 64)
	op.kind, op.name, op.session, op.reason = audit.KindRecordingRead, "recording/"+id, id, v.reason
	op.details = map[string]any{"purpose": v.purpose, "from": v.from, "follow": v.follow}
	return op
}

// sendRecording opens the recording and replies with its bytes. One that is followed need not have begun.
//
// Whose session it was and on which host is known from our record alone. Without one (a database
// restored from a backup) policy would be asked about nobody's session on a host without labels.
func (s *Server) sendRecording(ctx context.Context, c *call, v wanted, of recordingOf, stands *standing) (effect, error) {
	in, err := s.Recordings.Reader(ctx, v.id, v.from)
	switch {
	case err == nil && !of.known && v.purpose != api.PurposeVerify:
		_ = in.Close()
		return effect{denied: api.Errorf(api.KindDenied, "the broker does not know whose session %q was, or which labels its host had, so policy cannot decide who sees it", printable(v.id, 64)).
			WithHint("the recording is not lost: sega audit verify checks it, and a recipient's identity opens the copy in the bucket")}, nil
	case errors.Is(err, fs.ErrNotExist) && v.follow && of.known:
		in = nil
	case errors.Is(err, fs.ErrNotExist):
		return effect{denied: api.Errorf(api.KindNotFound, "there is no recording of %q", printable(v.id, 64)).WithHint("run: sega audit query --kind session.start")}, nil
	case errors.Is(err, fs.ErrInvalid):
		return effect{denied: api.Errorf(api.KindInvalid, "the recording of %q has no byte %d", printable(v.id, 64), v.from)}, nil
	case err != nil:
		return effect{}, api.Errorf(api.KindInternal, "the recording cannot be read").WithCause(err)
	}
	f := &recordingTail{s: s, stands: stands, wanted: v, in: in}
	return effect{reply: stream(func(w http.ResponseWriter) {
		if err := f.run(ctx, w); err != nil {
			s.Logger.Log(ctx, s.levelOf(c.request, err), "recording broke off", "request", c.id, "error", err)
			panic(http.ErrAbortHandler) // the client must not take it for whole
		}
	})}, nil
}

// recordingOf is what policy is told of a recording: whose session it is, and the labels of its host
// when the session was opened and as they are now. Both must be permitted: a host that has left the
// inventory or got other labels protects its recordings as before, and one that is protected now, too.
type recordingOf struct {
	then  policy.Resource
	now   *policy.Resource // nil where nothing else is to be asked
	known bool             // the broker has a record of session and labels
}

func (s *Server) recordingOf(ctx context.Context, id string) (of recordingOf, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		of, err = s.readRecordingOf(ctx, tx, id)
		return err
	})
	return of, unavailable(err)
}

func (s *Server) readRecordingOf(ctx context.Context, tx store.Querier, id string) (recordingOf, error) {
	of := recordingOf{then: policy.Resource{Type: policy.TypeRecording, ID: cmp.Or(printable(id, 64), "unknown")}}
	v, err := state.SSHByID(ctx, tx, id)
	if errors.Is(err, state.ErrNotFound) {
		return of, nil
	}
	if err != nil {
		return of, err
	}
	of.then.Owner, of.then.OwnerIssuer, of.then.Labels, of.known = v.Subject, v.Issuer, v.Labels, v.Labels != nil
	h, ok, err := s.hostIn(ctx, tx, v.Host)
	if err != nil {
		return of, err
	}
	if ok && !maps.Equal(h.Labels, v.Labels) {
		now := of.then
		now.Labels = h.Labels
		of.now = &now
	}
	return of, nil
}

// settleLabels gives the sessions of a database of before version 3 their hosts' present labels, once.
func (s *Server) settleLabels(ctx context.Context) error {
	open := false
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		open, err = state.UnsettledSSH(ctx, tx)
		return err
	})
	if err != nil || !open {
		return err
	}
	hosts := map[string]map[string]string{}
	for _, h := range s.Hosts {
		hosts[h.Name] = h.Labels
	}
	_, err = s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error { return state.SettleSSHLabels(ctx, tx, hosts) })
	return err
}

// onRecording is an operation that policy decides by a recording.
func (s *Server) onRecording(c *call, action string, of recordingOf, around policy.Context) operation {
	around.Source = c.source.String()
	op := operation{decide: s.request(c.session, action, of.then, around)}
	if of.now != nil {
		op.also = []demand{{request: s.request(c.session, action, *of.now, around)}}
	}
	return op
}

var errDraining = errors.New("the broker stops")

// recordingTail is a recording on its way to a client.
type recordingTail struct {
	s      *Server
	stands *standing
	wanted
	in io.ReadCloser // nil where there is nothing yet
}

// run sends what is there and, to who follows, what comes, until the session has ended. Whatever
// else ends it is an error.
func (f *recordingTail) run(ctx context.Context, w http.ResponseWriter) error {
	defer func() {
		if f.in != nil {
			_ = f.in.Close()
		}
	}()
	f.s.stamp(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		// Asked before the bytes are read: what came before the end is sent.
		live, err := f.live(ctx)
		if err != nil {
			return err
		}
		if err := f.stands.check(ctx); err != nil {
			return err
		}
		if err := f.send(ctx, w); err != nil || !live {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.s.stop:
			return errDraining
		}
	}
}

// live reports whether there may be more.
func (f *recordingTail) live(ctx context.Context) (live bool, err error) {
	if !f.follow {
		return false, nil
	}
	err = f.s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		v, err := state.SSHByID(ctx, tx, f.id)
		live = err == nil && v.State == state.SSHLive && f.s.Now().Before(v.NotAfter)
		if errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		return err
	})
	return live, err
}

// send writes what is there now.
func (f *recordingTail) send(ctx context.Context, w http.ResponseWriter) error {
	if f.in == nil {
		in, err := f.s.Recordings.Reader(ctx, f.id, f.from)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.in = in
	}
	out := unhurried(w)
	if f.in != nil {
		if err := f.stands.copy(ctx, out, f.in); err != nil {
			return err
		}
	}
	if !f.follow {
		return nil
	}
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return errors.Join(errHungUp, err)
	}
	// A deadline that passes between two pieces would end the stream.
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}
