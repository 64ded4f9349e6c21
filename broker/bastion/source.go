package bastion

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"sega/broker/bastion/proxyproto"
)

// proxyGrace is how long a listed proxy may take to say for whom it connects.
const proxyGrace = 5 * time.Second

// errNotSSH is a client that begins with something else than SSH.
var errNotSSH = errors.New("it does not speak SSH")

// source returns the address that a connection comes from: its own, or the one that a listed proxy
// names for it (R13). From such a proxy a header must come, and from nobody else may one.
//
// Connections that wait for their header have a door of their own, for a proxy's address says nothing
// about whose they are.
func (b *Bastion) source(ctx context.Context, raw *bufferedConn) (netip.Addr, error) {
	own := sourceOf(raw.RemoteAddr())
	if !slices.ContainsFunc(b.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(own) }) {
		return own, nil
	}
	leave, _ := b.proxyDoor.enter(raw.Conn, netip.Addr{})
	defer leave()
	grace := time.AfterFunc(proxyGrace, raw.Abort)
	defer grace.Stop()
	stop := context.AfterFunc(ctx, raw.Abort)
	defer stop()
	named, err := proxyproto.Read(raw.r)
	switch {
	case errors.Is(err, proxyproto.ErrHeader):
		b.cfg.Log.Error("connection dropped: a trusted proxy must send the PROXY protocol", "proxy", own, "error", err)
		return netip.Addr{}, err
	case err != nil:
		return netip.Addr{}, err
	case !named.IsValid():
		return own, nil
	}
	return named.Addr(), nil
}

// sourceOf returns the address of a connection. One that has none gets the zero address, which no
// source-address of a certificate allows.
func sourceOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// identification is what a client begins with.
const identification = "SSH-"
