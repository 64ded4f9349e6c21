package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"sega/audit/store"
	"sega/broker/api"
)

// TestHangUpIsNoError: our log has no error of a caller who only went away, and has each that is ours, whether he waits for it or not.
func TestHangUpIsNoError(t *testing.T) {
	cancelled := fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled)
	for name, c := range map[string]struct {
		left, draining bool // the caller, and our server
		err            error
		logged         bool
	}{
		"he left":                      {true, false, cancelled, false},
		"he left, wrapped":             {true, false, api.Errorf(api.KindInternal, "x").WithCause(cancelled), false},
		"the disk is full":             {false, false, store.ErrUnavailable, true},
		"the disk is full and he left": {true, false, store.ErrUnavailable, true},
		"our own context ended":        {false, false, cancelled, true},
		"our own time ran out":         {true, false, fmt.Errorf("%w: %w", store.ErrUnavailable, context.DeadlineExceeded), true},
		"we shut down":                 {true, true, cancelled, true},
		"a body that ends early":       {false, false, api.Errorf(api.KindInvalid, "x").WithCause(cutOff(httptest.NewRequest("POST", "/", iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF)), false},
		"JSON that ends early":         {false, false, decode(&call{request: httptest.NewRequest("POST", "/", strings.NewReader(`{"x":`))}, &struct{}{}), true},
		"a body that is no JSON":       {false, false, api.Errorf(api.KindInvalid, "x").WithCause(cutOff(httptest.NewRequest("POST", "/", nil), errors.New("invalid character"))), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := httptest.NewRequest("POST", "/x", nil)
			ctx, leave := context.WithCancel(r.Context())
			defer leave()
			if c.left {
				leave()
			}
			if c.draining {
				w.s.Drain()
			}
			status := w.s.fail(httptest.NewRecorder(), &call{request: r.WithContext(ctx)}, c.err)
			if logged := strings.Contains(w.logs.String(), "request failed"); logged != c.logged || (status == statusHungUp) == c.logged {
				t.Errorf("status %d, logged %q", status, w.logs)
			}
		})
	}
}

// brokenPipe is an answer that nobody takes.
type brokenPipe struct{ http.ResponseWriter }

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestStreamNobodyReads: a stream ends without an error of ours where its reader goes away, and with one where we have no more.
func TestStreamNobodyReads(t *testing.T) {
	for name, c := range map[string]struct {
		to     http.ResponseWriter
		err    error
		logged bool
	}{
		"he left":                  {brokenPipe{httptest.NewRecorder()}, nil, false},
		"the database broke":       {httptest.NewRecorder(), store.ErrUnreadable, true},
		"it broke and he has left": {brokenPipe{httptest.NewRecorder()}, store.ErrUnreadable, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			k := &call{request: httptest.NewRequest("GET", "/x", nil)}
			w.s.streamRows(t.Context(), c.to, k, w.s.standing(k, authSession, nil), func(emit func(any) error) error {
				if err := emit(strings.Repeat("x", 128<<10)); c.err == nil {
					return err
				}
				return c.err
			})
			if logged := strings.Contains(w.logs.String(), "broke off"); logged != c.logged {
				t.Errorf("logged %q", w.logs)
			}
		})
	}
}
