package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// lastLine ends a complete stream: without it the client knows that lines are missing.
const lastLine = `{"end":true}` + "\n"

// streamRows writes NDJSON and, when all of it was written, the last line. It breaks off where the
// asker may have it no longer.
func (s *Server) streamRows(ctx context.Context, w http.ResponseWriter, c *call, stands *standing, each func(emit func(any) error) error) {
	out := s.newLines(w)
	emit := func(v any) error {
		if err := stands.still(ctx); err != nil {
			return err
		}
		return out.emit(v)
	}
	if err := each(emit); err != nil {
		s.Logger.Log(ctx, s.levelOf(c.request, err), "stream broke off", "request", c.id, "error", err)
		_ = out.Flush()
		return
	}
	out.end()
}

// lines writes NDJSON. What it takes is sent when 64 KiB are together, at the end, and by Flush.
type lines struct {
	*bufio.Writer
	encoder *json.Encoder
	control *http.ResponseController
}

func (s *Server) newLines(w http.ResponseWriter) *lines {
	s.stamp(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(unhurried(w), 64<<10)
	return &lines{Writer: out, encoder: json.NewEncoder(out), control: http.NewResponseController(w)}
}

func (l *lines) emit(v any) error { return l.encoder.Encode(v) }

// push sends what waits, through net/http's own buffer too.
func (l *lines) push() error {
	if err := l.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}

// end writes the last line.
func (l *lines) end() {
	_, _ = l.WriteString(lastLine)
	_ = l.Flush()
}

// breakOff says why there is no last line, where somebody is there to read it.
func (l *lines) breakOff(ctx context.Context, err error) {
	if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		_ = l.emit(map[string]any{"problem": asProblem(err)}) // an api.EventLine
	}
	_ = l.Flush()
}

// streamWrite is how long a client may take to accept a piece of a stream.
const streamWrite = 30 * time.Second

// unhurried lifts the server's limits on a request's time, which a stream may outlive, and sets one
// on each write instead: a client that accepts nothing does not hold a stream for ever.
func unhurried(w http.ResponseWriter) io.Writer {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // not every writer has deadlines: then there is none to lift
	_ = c.SetWriteDeadline(time.Time{})
	return writerFunc(func(p []byte) (int, error) {
		_ = c.SetWriteDeadline(time.Now().Add(streamWrite))
		n, err := w.Write(p)
		if err != nil {
			err = errors.Join(errHungUp, err)
		}
		return n, err
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
