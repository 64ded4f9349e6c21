package awssts

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// maxAnswer bounds an answer of STS, which is about 2 KiB.
const maxAnswer = 1 << 20

// wire counts what became of the attempts of one call: the SDK repeats on its own, and only its
// last error comes back. It belongs to a single call and is used by one goroutine at a time.
type wire struct {
	next       *http.Client
	attempts   int
	unanswered int // written at least in part, and no answer below 500 came back whole
	accepted   int // answers of 2xx
}

// Do implements the SDK's HTTPClient. It reads the answer whole, so that a connection that breaks
// in its midst counts here and not later in the SDK's decoder.
func (w *wire) Do(req *http.Request) (*http.Response, error) {
	w.attempts++
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	resp, err := w.next.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		if wrote.Load() {
			w.unanswered++
		}
		return nil, err
	}
	body, err := readAnswer(resp)
	if err != nil {
		w.unanswered++
		return nil, err
	}
	switch {
	case resp.StatusCode >= 500:
		w.unanswered++
	case resp.StatusCode/100 == 2:
		w.accepted++
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of STS: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer of STS exceeds %d bytes", maxAnswer)
	}
	return body, nil
}

// noRedirect returns a copy of c that follows no redirect: a signed request goes to one place. A
// nil c becomes a client that has its own connections and TLS 1.2 at the least (Go's default).
func noRedirect(c *http.Client) *http.Client {
	own := http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 60 * time.Second,
	}}
	if c != nil {
		own = *c
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}
