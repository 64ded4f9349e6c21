package broker

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sega/broker/api"
	"sega/broker/policy"
)

// sshPort is where sshd listens unless somebody says otherwise.
const sshPort = 22

// forwardOf turns what a forward names into what policy sees of it, or refuses one that ends at a
// host's sshd: a session inside it would be on no recording. What a name means to the host that
// resolves it nobody here can know; the bastion looks at the first bytes for that reason.
func (s *Server) forwardOf(r api.ChannelRequest, host Host) (policy.Forward, *api.Problem) {
	t := channelTypes[r.Type]
	if t.action != policy.ActionForward {
		return policy.Forward{}, nil
	}
	name := canonicalHost(r.Host)
	if strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		// To inet_aton(3), and so to getaddrinfo of glibc before 2.29, "127.0.0.1 x" is an address.
		return policy.Forward{}, api.Errorf(api.KindDenied, "no host of a forward has a blank in its name").WithHint("name it as DNS does, or by its address")
	}
	f := policy.Forward{Direction: t.direction, Host: name, Port: int64(r.Port), Socket: r.Socket, Loopback: r.Socket == "" && ownLoopback(name)}
	if t.direction == policy.DirectionLocal && r.Socket == "" && s.isSSH(name, r.Port, host) {
		return f, api.Errorf(api.KindDenied, "forwards to the sshd of a host are refused: what went through could not be read").
			WithHint("connect to it through the bastion: sega ssh HOST")
	}
	return f, nil
}

// isSSH reports whether sshd of a host of the inventory is known to listen at a place, as seen from a
// host: at the port of its address, and at 22. Where the inventory cannot be read, everything is one.
func (s *Server) isSSH(name string, port uint32, from Host) bool {
	own := ownLoopback(name)
	all, err := s.inventory()
	if err != nil {
		return true // who can tell
	}
	for _, h := range all {
		if port != sshPort && port != portOf(h.Address) {
			continue
		}
		if own && h.Name == from.Name || namesHost(name, h) {
			return true
		}
	}
	return false
}

func portOf(address string) uint32 {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return sshPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return sshPort
	}
	return uint32(n)
}

// namesHost reports whether a canonical name stands for a host: its name, its ID, its address, and each
// without its domain, for a resolver may add one.
func namesHost(name string, h Host) bool {
	address, _, err := net.SplitHostPort(h.Address)
	if err != nil {
		address = h.Address
	}
	return slices.ContainsFunc([]string{h.Name, h.ID, address}, func(known string) bool { return sameHost(name, canonicalHost(known)) })
}

func sameHost(a, b string) bool {
	if a == b {
		return a != ""
	}
	_, errA := netip.ParseAddr(a)
	_, errB := netip.ParseAddr(b)
	if errA == nil || errB == nil {
		return false
	}
	shortA, domainA, _ := strings.Cut(a, ".")
	shortB, domainB, _ := strings.Cut(b, ".")
	return shortA == shortB && (domainA == "" || domainB == "")
}

// canonicalHost brings a host as somebody typed it into one form: without brackets, trailing dots and
// zone, in lower case, and an address as resolvers read it, which take 2130706433, 0x7f.1 and 0177.0.0.1 for
// 127.0.0.1.
func canonicalHost(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	name = strings.TrimRight(name, ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	if addr, ok := parseInetAton(name); ok {
		return addr.String()
	}
	return name
}

// parseInetAton reads an IPv4 address as inet_aton(3) does: one to four numbers, decimal, octal (0…) or
// hexadecimal (0x…), of which the last fills what is left of the 32 bits.
func parseInetAton(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		n, ok := inetNumber(part)
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if !ok || n >= 1<<bits {
			return netip.Addr{}, false
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

func inetNumber(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	n, err := strconv.ParseUint(s, base, 32)
	return n, err == nil
}

// ownLoopback reports whether a canonical name is the loopback of whoever resolves it. Unspecified
// addresses connect there as well, and a link-local one may.
func ownLoopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.Is4() && addr.As4()[0] == 0
	}
	first, _, _ := strings.Cut(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	return name == "" || last == "localhost" || first == "localhost" || slices.Contains([]string{"ip6-localhost", "ip6-loopback", "loopback"}, name)
}
