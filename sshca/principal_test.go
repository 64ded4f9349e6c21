package sshca

import (
	"errors"
	"strings"
	"testing"
)

func TestGrammarOfNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	checks := map[string]struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		"principal": {CheckPrincipal,
			[]string{"a", "_x", "9", "root@db1.prod", loginID, "A.b_c@d+e=f-g", long(128)},
			[]string{"", long(129), "-a", ".a", "@a", "+a", "=a", "a,b", ",", "*", "a*", "a?", "a b", "a\tb", "a\nb", "a\x00", "a\x7f", "ä", "a/b", "a:b", "a%b", "a!b", "a\"b", "a\\b", "~a", "a ", " a"}},
		"login": {CheckLogin,
			[]string{"root", "ec2-user", "_apt", "jane.doe", "a", "u2", long(32)},
			[]string{"", long(33), "Root", "2u", "-root", ".root", "root@db1", "a%b", "a+b", "a,b", "a b", "machine$", "a*", "a\x00", "a/b", "ä", loginID, "ses_", "ssh_x"}},
		"host": {CheckHostName,
			[]string{"db1", "db1.prod.example", "i-0abc123", "10.0.0.1", "a_b.c", "0", strings.TrimSuffix(strings.Repeat(long(63)+".", 4), long(3)+".")[:253-2]},
			[]string{"", long(64), strings.Repeat("a.", 127) + "a", "DB1", "*.prod", "*", "db?", "db1.", ".db1", "a..b", "-a", "a-", "_a", "a_", "a.-b", "db1:22", "[::1]", "::1", "a,b", "a b", "a@b", "a%b", "a/b", "a\n", "ä"}},
	}
	for name, c := range checks {
		t.Run(name, func(t *testing.T) {
			for _, s := range c.good {
				if err := c.check(s); err != nil {
					t.Errorf("%q refused: %v", s, err)
				}
			}
			for _, s := range c.bad {
				if err := c.check(s); !errors.Is(err, ErrPrincipal) {
					t.Errorf("%q: got %v, want ErrPrincipal", s, err)
				}
			}
		})
	}
}

func TestHopPrincipal(t *testing.T) {
	p, err := HopPrincipal("deploy", "db1.prod")
	if err != nil || p != "deploy@db1.prod" {
		t.Fatalf("got %q, %v", p, err)
	}
	for _, c := range [][2]string{
		{"", "db1"}, {"root", ""}, {"root@db1", "db2"}, {"root", "db1@db2"}, {"root", "*"}, {"*", "db1"}, {"root,admin", "db1"},
		{"root", "db1,root@db2"}, {loginID, "db1"}, {"root", strings.Repeat("a.", 62) + "a"},
	} {
		if p, err := HopPrincipal(c[0], c[1]); !errors.Is(err, ErrPrincipal) || p != "" {
			t.Errorf("%q at %q: got %q, %v", c[0], c[1], p, err)
		}
	}
}

// An access certificate's principal must be the name of no account, and a bare login no hop principal.
func TestPrincipalsOfProfilesAreDisjoint(t *testing.T) {
	if CheckLogin(loginID) == nil {
		t.Error("a login ID passes as an account")
	}
	for _, p := range []string{loginID, "root", sessionID} {
		if checkHopPrincipal(p) == nil {
			t.Errorf("%q passes as a hop principal", p)
		}
	}
}

func TestParseKeyID(t *testing.T) {
	for _, want := range []KeyID{{loginID, person}, {sessionID, "jo"}, {"ses_" + strings.Repeat("a", 40), strings.Repeat("x", 64)}, {sessionID, "A_z=,.@-+"}} {
		got, err := ParseKeyID(want.String())
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v", want, got, err)
		}
	}
	for _, s := range []string{
		"", " ", loginID, loginID + " ", " " + person, person, person + " " + loginID, loginID + "  " + person, loginID + " " + person + " ",
		" " + loginID + " " + person, loginID + " j", loginID + " " + strings.Repeat("x", 65), loginID + " a b", loginID + "\t" + person,
		loginID + " jane\nroot", loginID + " jané", "ses_ " + person, "ses_short " + person, "ses_ABCDEFGHIJKMNPQRSTUV " + person,
		"mch_abcdefghijkmnpqrstuv " + person, "ses_" + strings.Repeat("a", 41) + " " + person, loginID + " \x00\x00",
	} {
		if k, err := ParseKeyID(s); !errors.Is(err, ErrKeyID) || k != (KeyID{}) {
			t.Errorf("%q: got %v, %v", s, k, err)
		}
	}
}

func TestSerial(t *testing.T) {
	for _, c := range []struct{ era, counter uint32 }{{0, 1}, {1, 0}, {1, 1}, {1<<32 - 1, 1<<32 - 1}, {7, 1 << 31}} {
		s := mustSerial(t, c.era, c.counter)
		if s.Era() != c.era || s.Counter() != c.counter {
			t.Errorf("%v: got era %d, counter %d", c, s.Era(), s.Counter())
		}
		if back, err := ParseSerial(s.String()); err != nil || back != s {
			t.Errorf("%v: parsed %v, %v", s, back, err)
		}
	}
	if s, err := NewSerial(0, 0); !errors.Is(err, ErrSerial) {
		t.Errorf("serial 0: got %v, %v", s, err)
	}
	for _, s := range []string{"", "0", "-1", "+1", "01", "0x1", "1 ", "18446744073709551616", "1_000"} {
		if n, err := ParseSerial(s); !errors.Is(err, ErrSerial) {
			t.Errorf("%q: got %v, %v", s, n, err)
		}
	}
	// Order of serials is order of issue, across eras.
	if a, b := mustSerial(t, 1, 1<<32-1), mustSerial(t, 2, 0); a >= b {
		t.Errorf("era 1 ends at %v, era 2 begins at %v", a, b)
	}
}
