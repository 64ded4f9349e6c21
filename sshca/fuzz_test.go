package sshca

import (
	"errors"
	"strings"
	"testing"
)

func FuzzParseKeyID(f *testing.F) {
	for _, s := range []string{loginID + " " + person, sessionID + " jo", "", " ", loginID + "  x", "ses_x jane", loginID + " a,b", loginID + " a\nb", "mch_abcdefghijkmnpqrstuv xx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKeyID(s)
		if err != nil {
			if !errors.Is(err, ErrKeyID) || k != (KeyID{}) {
				t.Errorf("%q: %v, %v", s, k, err)
			}
			return
		}
		if k.String() != s || strings.ContainsAny(s, "\r\n\t\x00") || strings.Count(s, " ") != 1 {
			t.Errorf("%q came back as %q", s, k)
		}
	})
}

func FuzzCheckPrincipal(f *testing.F) {
	for _, s := range []string{"root@db1", loginID, "", "a,b", "*", "-x", "a b", "\x00", "ä", strings.Repeat("a", 129)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckPrincipal(s) == nil && (s == "" || len(s) > 128 || s[0] == '-' || strings.ContainsAny(s, ",*?! \t\r\n\x00\"'\\/%$:;|&<>()[]{}#~`^") || strings.ToValidUTF8(s, "") != s) {
			t.Errorf("principal %q accepted", s)
		}
		login, host, ok := strings.Cut(s, "@")
		if !ok {
			return
		}
		p, err := HopPrincipal(login, host)
		if err == nil && (p != s || CheckPrincipal(p) != nil || checkHopPrincipal(p) != nil || CheckLogin(p) == nil) {
			t.Errorf("hop principal %q made of %q", p, s)
		}
	})
}

func FuzzParseSources(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "192.0.2.1,2001:db8::/64", "", ",", "0.0.0.0/0", "10.0.0.1/8", "::ffff:1.2.3.4", "fe80::1%a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prefixes, err := parseSources(s)
		if err != nil {
			return
		}
		for i, part := range strings.Split(s, ",") {
			if p := prefixes[i]; p.String() == part || p.Addr().Is4() || p.Addr().Is6() {
				if p.Bits() == 0 || p.Masked() != p || checkSource(s, p.Addr()) != nil {
					t.Errorf("%q holds %v", s, p)
				}
			}
		}
	})
}

func FuzzParseCertificate(f *testing.F) {
	ca := newEd25519(f)
	for _, c := range []string{
		MarshalLine(issue(f, NewAccess, accessParams(f), Access, ca)), MarshalLine(issue(f, NewHop, hopParams(f), Hop, ca)) + " comment",
		MarshalLine(issue(f, NewHost, hostParams(f, Host), Host, newECDSA(f))), MarshalLine(ca.PublicKey()), "", "ssh-ed25519-cert-v01@openssh.com AAAA",
	} {
		f.Add(c)
	}
	bundle := Bundle{ca.PublicKey()}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCertificate(line)
		if err != nil {
			return
		}
		again, err := ParseCertificate(MarshalLine(c))
		if err != nil || Digest(again) != Digest(c) || MarshalLine(again) != strings.Join(strings.Fields(line)[:2], " ") {
			t.Errorf("%q does not come back: %v", line, err)
		}
		_ = Lint(c, Access)
		if CheckAccess(c, bundle, noon, anyone) == nil && Lint(c, Access) != nil && !errors.Is(Lint(c, Access), ErrExtension) {
			t.Errorf("%q passes the check and not the lint", line)
		}
		_ = CheckHost(c, bundle, "db1", noon)
	})
}
