package sshca

import (
	"fmt"
	"net/netip"
	"strings"
)

const maxSources = 64

func joinSources(sources []string) string { return strings.Join(sources, ",") }

// parseSources parses the value of source-address as sshd's addr_match_cidr_list reads it:
// addresses and CIDRs without host bits, joined by commas. A prefix of length 0 is refused: it
// looks like a restriction and is none.
func parseSources(value string) ([]netip.Prefix, error) {
	parts := strings.Split(value, ",")
	if value == "" || len(parts) > maxSources {
		return nil, fmt.Errorf("%w: source-address needs 1 to %d addresses", ErrOption, maxSources)
	}
	prefixes := make([]netip.Prefix, 0, len(parts))
	for _, part := range parts {
		p, err := parseSource(part)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

func parseSource(s string) (netip.Prefix, error) {
	bad := fmt.Errorf("%w: source-address %q is neither an address nor a CIDR without host bits", ErrOption, clip(s))
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return netip.Prefix{}, bad
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Masked() != p || p.Bits() == 0 || p.Addr().Is4In6() {
		return netip.Prefix{}, bad
	}
	return p, nil
}

// checkSource checks where a certificate is shown from. An IPv4 address in IPv6 form counts as IPv4.
func checkSource(value string, source netip.Addr) error {
	prefixes, err := parseSources(value)
	if err != nil {
		return err
	}
	source = source.Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(source) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not in %s", ErrSource, source, value)
}
