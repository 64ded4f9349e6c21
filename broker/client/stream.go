package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"time"
)

// endLine ends a stream that has an end. A stream without it was cut.
const endLine = `{"end":true}`

// errIdle is the cause of a stream's end by silence.
var errIdle = errors.New("nothing came for too long")

// watch cancels a context when a stream is silent for too long.
type watch struct {
	timer *time.Timer
	idle  time.Duration
}

// watched returns a context that ends with errIdle unless the watch is fed, and the watch, which
// starts at once. cancel must be called.
func watched(ctx context.Context, idle time.Duration) (context.Context, *watch, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{idle: idle, timer: time.AfterFunc(idle, func() { cancel(errIdle) })}
	return ctx, w, func() { w.timer.Stop(); cancel(nil) }
}

// feed starts the time anew, pause stops it while nobody reads.
func (w *watch) feed()  { w.timer.Reset(w.idle) }
func (w *watch) pause() { w.timer.Stop() }

// lines reads the lines of an answer and gives each, without its end, to f until f says no.
// An error of the connection is a Problem; the end is io.EOF, and io.ErrUnexpectedEOF
// within a line.
func (c *Client) lines(ctx context.Context, body io.Reader, w *watch, f func(line []byte) (more bool, err error)) error {
	r := bufio.NewReaderSize(body, 64<<10)
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		w.pause()
		more, err := f(line)
		if err != nil || !more {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		w.feed()
	}
}

var errLongLine = errors.New("a line is longer than 4 MiB")

// readLine returns a line of at most maxLine bytes without its line feed.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine+1 {
			return nil, errLongLine
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// errStop ends a stream because its reader has had enough.
var errStop = errors.New("stopped")

// stream yields the items of an NDJSON answer that has an end. What goes wrong, a missing end
// included, is yielded last, with a zero item.
func stream[T any](ctx context.Context, c *Client, k call) iter.Seq2[T, error] {
	return streamOf(ctx, c, k, func(line []byte) (item T, err error) {
		err = json.Unmarshal(line, &item)
		return item, err
	})
}

// streamOf is stream with a decoder of its lines.
func streamOf[T any](ctx context.Context, c *Client, k call, decode func(line []byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := c.run(ctx, k, func(line []byte) error {
			item, err := decode(line)
			if err != nil {
				return c.notSega("a line that does not fit its type")
			}
			if !yield(item, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			var zero T
			yield(zero, err)
		}
	}
}

// run makes the call and gives each line but the last to f.
func (c *Client) run(ctx context.Context, k call, f func(line []byte) error) error {
	ctx, w, cancel := watched(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.feed()
	var refused error
	err = c.lines(ctx, resp.Body, w, func(line []byte) (bool, error) {
		if bytes.Equal(line, []byte(endLine)) {
			return false, nil
		}
		refused = f(line)
		return refused == nil, refused
	})
	if err == nil || refused != nil {
		return err
	}
	return c.cut(ctx, err)
}

// cut names the reason for a stream's early end.
func (c *Client) cut(ctx context.Context, err error) error {
	if errors.Is(err, errLongLine) {
		return c.notSega(errLongLine.Error())
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return c.failure(ctx, err)
}

// silence is told when a reader waits and when it does not.
type silence interface {
	feed()
	pause()
}

// body is an answer read by the caller, cut off by silence where there is a watch.
type body struct {
	c      *Client
	ctx    context.Context // of this one answer
	resp   *http.Response
	watch  silence
	cancel context.CancelFunc
}

// open makes the call and hands out the answer's body, of any length.
func (c *Client) open(ctx context.Context, k call) (io.ReadCloser, error) {
	ctx, w, cancel := watched(ctx, c.cfg.Timeout)
	resp, err := c.send(ctx, k)
	if err != nil {
		cancel()
		return nil, err
	}
	w.pause()
	return &body{c: c, ctx: ctx, resp: resp, watch: w, cancel: cancel}, nil
}

// Read implements io.Reader; only the time spent in it counts as silence.
func (b *body) Read(p []byte) (int, error) {
	b.watch.feed()
	n, err := b.resp.Body.Read(p)
	b.watch.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		return n, b.c.failure(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel()
	return b.resp.Body.Close()
}
