package broker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

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
	q := r.URL.Query()
	v := wanted{id: r.PathValue("id"), purpose: q.Get(api.ParamPurpose), reason: printable(strings.TrimSpace(q.Get(api.ParamReason)), 1000), follow: q.Get(api.ParamFollow) == "1"}
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
	if text := q.Get(api.ParamFrom); text != "" {
		var err error
		if v.from, err = strconv.ParseInt(text, 10, 64); err != nil || v.from < 0 {
			return v, api.Errorf(api.KindInvalid, "from is a byte of the recording")
		}
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
	resource, err := s.recordingResource(ctx, v.id)
	if err != nil {
		return nil, err
	}
	id := printable(v.id, 64)
	op := operation{kind: "recording.read", name: "recording/" + id, session: id, reason: v.reason,
		details: map[string]any{"purpose": v.purpose, "from": v.from, "follow": v.follow}}
	action := policy.ActionReplay
	if v.purpose == api.PurposeVerify {
		action, resource = policy.ActionVerifyLog, policy.Resource{Type: policy.TypeAuditLog, ID: "all"}
	}
	op.decide = s.request(c.session, action, resource, policy.Context{Reason: v.reason, Source: c.source.String()})
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return s.sendRecording(ctx, c, v, op.decide)
	}
	return s.perform(ctx, c, op)
}

// sendRecording opens the recording and replies with its bytes. One that is followed need not have begun.
func (s *Server) sendRecording(ctx context.Context, c *call, v wanted, decide *policy.Request) (effect, error) {
	in, err := s.Recordings.Reader(ctx, v.id, v.from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && v.follow:
		in = nil
	case errors.Is(err, fs.ErrNotExist):
		return effect{denied: api.Errorf(api.KindNotFound, "there is no recording of %q", printable(v.id, 64)).WithHint("run: sega audit query --kind session.start")}, nil
	case errors.Is(err, fs.ErrInvalid):
		return effect{denied: api.Errorf(api.KindInvalid, "the recording of %q has no byte %d", printable(v.id, 64), v.from)}, nil
	case err != nil:
		return effect{}, api.Errorf(api.KindInternal, "the recording cannot be read").WithCause(err)
	}
	f := &recordingTail{s: s, c: c, decide: decide, wanted: v, in: in}
	return effect{reply: stream(func(w http.ResponseWriter) {
		if err := f.run(ctx, w); err != nil {
			s.Logger.Error("recording broke off", "request", c.id, "error", err)
			panic(http.ErrAbortHandler) // the client must not take it for whole
		}
	})}, nil
}

// recordingResource is what policy is told of a recording: whose session it is, and the host's labels.
func (s *Server) recordingResource(ctx context.Context, id string) (policy.Resource, error) {
	resource := policy.Resource{Type: policy.TypeRecording, ID: printable(id, 64)}
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		v, err := state.SSHByID(ctx, tx, id)
		if errors.Is(err, state.ErrNotFound) {
			return nil // nobody's: the answer is that there is no such recording, to those who may ask
		}
		resource.Owner, resource.OwnerIssuer = v.Subject, v.Issuer
		if h, ok := s.host(v.Host); ok {
			resource.Labels = h.Labels
		}
		return err
	})
	if resource.ID == "" {
		resource.ID = "unknown"
	}
	return resource, unavailable(err)
}

var errDraining = errors.New("the broker stops")

// recordingTail is a recording on its way to a client.
type recordingTail struct {
	s      *Server
	c      *call
	decide *policy.Request
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

// live reports whether there may be more. Who follows must still be let: revocation, the end of the
// login and policy reach him as they reach a request.
func (f *recordingTail) live(ctx context.Context) (live bool, err error) {
	if !f.follow {
		return false, nil
	}
	err = f.s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		ok, err := state.Current(ctx, tx, f.c.bearer())
		if err != nil || !ok {
			return errors.Join(err, errRevoked)
		}
		v, err := state.SSHByID(ctx, tx, f.id)
		live = err == nil && v.State == state.SSHLive && f.s.Now().Before(v.NotAfter)
		if errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		return err
	})
	switch {
	case err != nil:
		return false, err
	case f.s.Now().After(f.c.session.Expires):
		return false, errors.New("the login's session must be renewed")
	case !f.s.Policy.Decide(*f.decide).Allow:
		return false, errors.New("policy permits it no more")
	}
	return live, nil
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
		if _, err := io.Copy(out, f.in); err != nil {
			return err
		}
	}
	if !f.follow {
		return nil
	}
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	// A deadline that passes between two pieces would end the stream.
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}
