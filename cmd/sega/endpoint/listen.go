package endpoint

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
)

// Limits against clients that take their time; whoever may use this machine may connect.
const (
	maxConns    = 512
	maxHeader   = 16 << 10
	readTime    = 5 * time.Second
	writeTime   = defaultWait + 10*time.Second
	idleTime    = 30 * time.Second
	drainedTime = time.Second
)

// Check reads an address on which credentials may be given (Local), like 127.0.0.1:0.
func Check(address string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return a, fmt.Errorf("%q is not an address with a port, like 127.0.0.1:0", address)
	}
	if !Local(a.Addr()) {
		return a, fmt.Errorf("%s can be reached from elsewhere: credentials are given on loopback addresses, 169.254.169.254, fd00:ec2::254 and 169.254.170.2 alone", a.Addr())
	}
	return a, nil
}

// Listen opens a TCP address that passes Check; port 0 is a free one.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if _, err := Check(address); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// Serve answers on a listener, which it closes, until ctx ends; then nil.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    log.New(io.Discard, "", 0)} // it would print what strangers send
	served := make(chan error, 1)
	go func() { served <- srv.Serve(netutil.LimitListener(ln, maxConns)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainedTime)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close()
	}
	<-served
	return nil
}
