package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"syscall"
)

// errHungUp is that a caller sent no more, or took nothing more.
var errHungUp = errors.New("broker: the caller hung up")

// statusHungUp is what the metrics count for a request whose caller has not waited for the answer, as nginx does.
const statusHungUp = 499

// hungUp reports whether a request ended because its caller went away, and for nothing of ours: what failed for another reason failed,
// whether or not somebody still waits. A server that ends its connections is no caller.
func (s *Server) hungUp(r *http.Request, err error) bool {
	if errors.Is(err, errHungUp) {
		return true
	}
	select {
	case <-s.stop:
		return false
	default:
	}
	return errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled)
}

// levelOf is that of a request's error in our log.
func (s *Server) levelOf(r *http.Request, err error) slog.Level {
	if s.hungUp(r, err) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// cutOff marks an error of reading a request's body as its caller's doing, where he went away before he had sent all of it.
func cutOff(r *http.Request, err error) error {
	if r.Context().Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) && !atEnd(r.Body) || errors.Is(err, syscall.ECONNRESET) {
		return errors.Join(errHungUp, err)
	}
	return err
}

// atEnd reports whether a body has come to its end: JSON that ends too early in it is as whoever waits for an answer has sent it.
// http.MaxBytesReader repeats what it ended with.
func atEnd(body io.Reader) bool {
	_, err := body.Read(make([]byte, 1))
	return err == io.EOF
}
