package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"sega/audit/recording"
	"sega/audit/recording/export"
	"sega/broker/api"
	"sega/broker/client"
)

const (
	reconnectFirst = 500 * time.Millisecond
	reconnectMost  = 10 * time.Second
	reconnectTime  = 2 * time.Minute // without a broker, until a tail gives up
)

// sessionTail says how to follow a session.
type sessionTail struct {
	identity, reason string
	raw              bool // let the recorded side reach the reviewer's terminal
}

// tailSession follows a live SSH session, read-only: it shows what there is, and then what comes.
// Signatures are checked on the way, beginning with the header that the log announced.
func (a *app) tailSession(ctx context.Context, id string, o sessionTail) error {
	identities, err := a.identities(o.identity)
	if err != nil {
		return err
	}
	reason, err := a.why(ctx, o.reason)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer stop()
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	v, err := s.evidenceOf(ctx, id)
	switch {
	case err != nil:
		return err
	case !v.recorded():
		return withKind(api.KindNotFound, fmt.Errorf("the log announces no recording of %s", id))
	case v.end != nil:
		return withKind(api.KindNotFound, withHint(fmt.Errorf("%s has ended", id), "run: sega audit play %s", id))
	}
	body := &growing{connect: a.tailConnection(id, reason), talk: a.err}
	defer body.close()
	t := &tail{app: a, evidence: v, options: o, frames: make(chan recording.Frame), now: a.now}
	return t.run(ctx, func(ctx context.Context) (*recording.Reader, error) {
		body.ctx = ctx
		return recording.Open(body, identities...)
	})
}

// tailConnection asks the broker for what comes from a byte on. Each time the login is read anew: it
// may have been renewed.
func (a *app) tailConnection(id, reason string) func(ctx context.Context, from int64) (io.ReadCloser, error) {
	return func(ctx context.Context, from int64) (io.ReadCloser, error) {
		s, err := a.open(ctx)
		if err != nil {
			return nil, err
		}
		return s.Recording(ctx, client.RecordingRequest{ID: id, Purpose: api.PurposeTail, Reason: reason, From: from, Follow: true})
	}
}

// growing reads a recording that grows. Where the connection breaks it goes on where it was; it
// ends when the session has.
type growing struct {
	ctx     context.Context
	connect func(ctx context.Context, from int64) (io.ReadCloser, error)
	talk    io.Writer
	body    io.ReadCloser
	at      int64
}

// Read implements io.Reader.
func (g *growing) Read(p []byte) (int, error) {
	wait, lost := reconnectFirst, time.Time{}
	for {
		n, err := g.read(p)
		g.at += int64(n)
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		g.close()
		if g.ctx.Err() != nil {
			return 0, context.Cause(g.ctx)
		}
		if !api.IsKind(err, api.KindUnreachable) {
			return 0, err
		}
		if lost.IsZero() {
			lost = time.Now()
			fmt.Fprint(g.talk, "sega: the connection broke, trying again\r\n")
		}
		if time.Since(lost) > reconnectTime {
			return 0, err
		}
		select {
		case <-g.ctx.Done():
			return 0, context.Cause(g.ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, reconnectMost)
	}
}

func (g *growing) read(p []byte) (n int, err error) {
	if g.body == nil {
		if g.body, err = g.connect(g.ctx, g.at); err != nil {
			g.body = nil
			return 0, err
		}
	}
	return g.body.Read(p)
}

func (g *growing) close() {
	if g.body != nil {
		_ = g.body.Close()
		g.body = nil
	}
}

// tail shows frames as they come.
type tail struct {
	*evidence
	app     *app
	options sessionTail
	frames  chan recording.Frame // closed at the end
	err     error                // why it was closed
	now     func() time.Time

	began    time.Time       // of the recording, by the bastion's clock
	channel  *uint32         // the first with a terminal, once there is one
	pty      map[uint32]bool // which have one
	terminal bool            // stdout is one
	keys     bool            // and it is raw
	out      io.Writer
	filter   *export.Harmless // what out is, or nil
	lag      time.Duration
}

// run shows a recording until it ends or the reviewer leaves, which ends the context that open is given:
// whatever reading waits for must end with it.
func (t *tail) run(ctx context.Context, open func(context.Context) (*recording.Reader, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	t.pty, t.out, t.terminal = map[uint32]bool{}, t.app.out, t.app.isTerminal()
	if t.terminal && !t.options.raw {
		t.filter = export.NewHarmless(t.app.out)
		t.out = t.filter
	}
	keys, leave, err := t.begin()
	if err != nil {
		close(done)
		return err
	}
	defer leave()
	go func() { defer close(done); t.err = t.read(ctx, open); close(t.frames) }()
	for {
		select {
		case f, ok := <-t.frames:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return t.ended()
			}
			if err := t.show(f); err != nil {
				return err
			}
		case k, ok := <-keys:
			if !ok || k == 'q' || k == keyBreak {
				return nil
			}
		case <-ctx.Done(): // by key or by signal: leaving is how it ends
			return nil
		}
	}
}

// begin says what is about to be seen, and takes the keyboard where there is one.
func (t *tail) begin() (keys <-chan key, leave func(), err error) {
	a := t.app
	fmt.Fprintf(a.err, "sega: %s is live: %s as %s@%s since %s; q or Ctrl-C leaves it running\n", t.id,
		escapeLine(actorName(t.start.Actor)), escapeLine(t.evidence.started.Login), escapeLine(t.evidence.started.Host), stamp(t.start.Time))
	if !t.terminal || a.stdin == nil || !term.IsTerminal(int(a.stdin.Fd())) {
		return nil, t.tidy, nil
	}
	k, err := openKeyboard(a.stdin, func() {})
	if err != nil {
		return nil, nil, err
	}
	t.keys = true
	fmt.Fprint(a.out, "\x1b[22;2t") // the title is put aside
	return k.keys, func() {
		_, _ = io.WriteString(a.out, sane+"\x1b[23;2t\r\n")
		k.close()
	}, nil
}

// tidy leaves a sane terminal where there is one, though it gives no keys.
func (t *tail) tidy() {
	if t.terminal {
		_, _ = io.WriteString(t.app.out, sane+"\r\n")
	}
}

// read hands on the frames of the recording.
func (t *tail) read(ctx context.Context, open func(context.Context) (*recording.Reader, error)) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	if err := r.Announced(*t.evidence.started.Recording); err != nil {
		return err
	}
	t.began = r.Header().Started
	for {
		f, err := r.Next()
		if err != nil {
			return err
		}
		select {
		case t.frames <- f:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// show writes one frame, and on a terminal into its title how far behind it is.
func (t *tail) show(f recording.Frame) error {
	if f.Stream == recording.StreamEvent {
		return t.note(f)
	}
	if f.Stream == recording.StreamIn || t.channel != nil && *t.channel != f.Channel {
		return nil
	}
	data := f.Data
	if t.keys && !t.pty[f.Channel] {
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	}
	if _, err := t.out.Write(data); err != nil {
		return err
	}
	lag := max(t.now().Sub(t.began.Add(f.Offset)), 0).Round(100 * time.Millisecond)
	if lag == t.lag || !t.keys {
		t.lag = lag
		return nil
	}
	t.lag = lag
	_, err := fmt.Fprintf(t.app.out, "\x1b]2;live %s, %s behind\x1b\\", t.id, lag)
	return err
}

func (t *tail) note(f recording.Frame) error {
	e, err := f.Event()
	if err != nil {
		return err
	}
	if t.filter != nil {
		t.filter.Note(e)
	}
	if e.Type == recording.EventPty {
		t.pty[f.Channel] = true
		if t.terminal && t.channel == nil {
			t.channel = &f.Channel
		}
	}
	return nil
}

// ended says how it ended.
func (t *tail) ended() error {
	switch {
	case t.err == io.EOF:
		fmt.Fprint(t.app.err, "\r\nsega: the session has ended\r\n")
		return nil
	case errors.Is(t.err, recording.ErrInterrupted):
		fmt.Fprintf(t.app.err, "\r\nsega: the session has ended, and its recording has no end yet; run: sega audit show %s\r\n", t.id)
		return nil
	}
	return t.err
}
