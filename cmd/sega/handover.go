package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// handOver leads a browser to a secret address without showing it to anybody else: open gets an address
// of this machine that redirects there, once, for a browser of this user. It returns when that was
// fetched, or with the end of ctx.
func handOver(ctx context.Context, target string, open func(address string) error) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	token := make([]byte, 32)
	rand.Read(token)
	h := &handover{host: ln.Addr().String(), path: "/" + base64.RawURLEncoding.EncodeToString(token), target: target, fetched: make(chan struct{}), ours: peerIsOurs}
	srv := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0)} // it would print what strangers send
	srv.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() {
		endServer(ctx, srv)
		<-served
	}()
	opened := open("http://" + h.host + h.path)
	select {
	case <-h.fetched:
		return nil
	default:
	}
	if opened != nil {
		return opened
	}
	select {
	case <-h.fetched:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// endServer lets the redirect go out, then closes what is still connected.
func endServer(ctx context.Context, srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close()
	}
}

// handover answers the one request.
type handover struct {
	host, path, target string
	ours               func(client, server net.Addr) bool

	once    sync.Once
	fetched chan struct{} // closed when the target was handed out
}

// ServeHTTP redirects the first request that knows the path. The Host check keeps out pages that reach
// 127.0.0.1 by a name of their own.
func (h *handover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if r.Host != h.host || subtle.ConstantTimeCompare([]byte(r.URL.EscapedPath()), []byte(h.path)) != 1 || r.URL.RawQuery != "" || r.Method != http.MethodGet || !h.fromHere(r) {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	first := false
	h.once.Do(func() { first = true })
	if !first {
		http.Error(w, "This address was opened already. Repeat the command.", http.StatusGone)
		return
	}
	defer close(h.fetched)
	header.Set("Location", h.target)
	w.WriteHeader(http.StatusFound)
}

// fromHere reports whether a process of this user asks: others on this machine see the address in the
// list of processes.
func (h *handover) fromHere(r *http.Request) bool {
	client, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
	server, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return err == nil && ok && h.ours(client, server)
}
