package endpoint

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"sega/broker/api"
)

// metadataAddresses are those that SDKs ask without being told, and take over plain HTTP.
// Source: AWS SDKs and tools reference, "IMDS credential provider", "Container credential provider".
var metadataAddresses = [...]netip.Addr{
	netip.AddrFrom4([4]byte{169, 254, 169, 254}),
	netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54}),
	netip.AddrFrom4([4]byte{169, 254, 170, 2}),
}

// Local reports whether credentials may be given on an address: a loopback one, or one of those on
// which SDKs look for metadata. No other machine is meant to reach either.
func Local(a netip.Addr) bool {
	a = a.Unmap()
	if a.IsLoopback() {
		return true
	}
	for _, m := range metadataAddresses {
		if a == m {
			return true
		}
	}
	return false
}

// guard refuses what no SDK on this machine sends: a request that came over the network, one that
// names another host than the address it came to (a page that has its own name point here), one that
// a page or a proxy sends.
func guard(r *http.Request) *api.Problem {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !fromHere(local.String(), r.RemoteAddr) {
		return api.Errorf(api.KindDenied, "credentials are given to this machine alone")
	}
	if !names(r.Host, local.String()) || r.URL.Host != "" {
		return api.Errorf(api.KindDenied, "the header Host does not name the address that was asked")
	}
	for _, h := range [...]string{"Origin", "X-Forwarded-For", "Forwarded", "Via"} {
		if _, there := r.Header[h]; there {
			return api.Errorf(api.KindDenied, "a request with the header %s is refused", h)
		}
	}
	if r.ContentLength != 0 || r.URL.RawQuery != "" || r.URL.ForceQuery {
		return api.Errorf(api.KindInvalid, "a request with a body or a query is refused")
	}
	return nil
}

// fromHere reports whether both ends of a connection are this machine's: a metadata address on an
// interface would otherwise answer a neighbour that routes to it.
func fromHere(local, remote string) bool {
	l, err := netip.ParseAddrPort(local)
	if err != nil || !Local(l.Addr()) {
		return false
	}
	r, err := netip.ParseAddrPort(remote)
	return err == nil && (r.Addr().Unmap().IsLoopback() || r.Addr().Unmap() == l.Addr().Unmap())
}

// names reports whether a Host header is the address; the port of HTTP itself may be left out.
func names(host, address string) bool {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	plain := a.Addr().Unmap().String()
	if a.Addr().Unmap().Is6() {
		plain = "[" + plain + "]"
	}
	return host == netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String() || a.Port() == 80 && host == plain
}

func escapeSegment(name string) string { return url.PathEscape(name) }

// unescapeSegment reads one segment of a path, in whatever way it is escaped.
func unescapeSegment(s string) (string, bool) {
	name, err := url.PathUnescape(s)
	return name, err == nil && printable(name)
}
