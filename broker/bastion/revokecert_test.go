package bastion

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// carriedOut sends a revocation and waits until the bastion has acknowledged it.
func (f *fakeControl) carriedOut(t *testing.T, rev api.Revocation) api.Ack {
	t.Helper()
	f.mu.Lock()
	n := len(f.acks)
	f.mu.Unlock()
	f.set(func() { f.revoked = append(f.revoked, rev) })
	eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > n })
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acks[n]
}

// last is the serial of the certificate that was signed last.
func (a *authority) last() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return 1<<32 | uint64(a.serial)
}

// certsOf reads from the report of a session's start what it stands on.
func (f *fakeControl) certsOf(t *testing.T) (d startDetail, serials map[string]uint64) {
	t.Helper()
	decode(t, f.only(t, kindStart).Details, &d)
	serials = map[string]uint64{}
	for profile, text := range map[string]string{api.ProfileAccess: d.AccessSerial, api.ProfileHop: d.HopSerial, api.ProfileHost: d.HostSerial} {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s serial %q in %+v", profile, text, d)
		}
		serials[profile] = n
	}
	return d, serials
}

// TestRevokedCertificatesCut: a session ends with each certificate that it stands on, and with its host; those of others
// leave it alone.
func TestRevokedCertificatesCut(t *testing.T) {
	for name, tt := range map[string]struct {
		rev  func(map[string]uint64) api.Revocation
		says string
	}{
		"access": {func(s map[string]uint64) api.Revocation {
			return api.Revocation{Profile: api.ProfileAccess, Serial: s[api.ProfileAccess]}
		}, "the access certificate of this session was revoked: gone"},
		"hop": {func(s map[string]uint64) api.Revocation {
			return api.Revocation{Profile: api.ProfileHop, Serial: s[api.ProfileHop]}
		}, "the hop certificate of this session was revoked: gone"},
		"host certificate": {func(s map[string]uint64) api.Revocation {
			return api.Revocation{Profile: api.ProfileHost, Serial: s[api.ProfileHost]}
		}, "the host certificate of this session was revoked: gone"},
		"host": {func(map[string]uint64) api.Revocation { return api.Revocation{Host: "web-1"} }, "the host was revoked: gone"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f)
			c := w.direct(t)
			ended := ended(t, c)
			s := newSession(t, c)
			if err := s.Shell(); err != nil {
				t.Fatal(err)
			}
			_, serials := f.certsOf(t)
			for i, others := range []api.Revocation{{Profile: api.ProfileAccess, Serial: 1 << 60}, {Profile: api.ProfileHop, Serial: 1 << 60}, {Profile: api.ProfileHost, Serial: 1 << 60},
				{Profile: api.ProfileFront, Serial: serials[api.ProfileAccess]}, {Host: "web-2"}} {
				others.Index = int64(i + 1)
				if a := f.carriedOut(t, others); a.Closed != 0 {
					t.Errorf("%+v cut %d sessions", others, a.Closed)
				}
			}
			rev := tt.rev(serials)
			rev.Index, rev.Reason, rev.EventID = 50, "gone", "evt_1"
			if a := f.carriedOut(t, rev); a != (api.Ack{Index: 50, Closed: 1}) {
				t.Errorf("acknowledged %+v", a)
			}
			<-ended
			if end := f.only(t, kindEnd); end.Outcome != "revoked" || !strings.Contains(end.Reason, tt.says) {
				t.Errorf("reported %+v", end)
			}
		})
	}
}

// TestRevokedHostCertificateIsRefused: what the broker says that a host must not show, whatever else is right with it.
func TestRevokedHostCertificateIsRefused(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	revoked := sshca.Serial(f.hosts.last()).String()
	f.onHop = func(hop *api.Hop) error {
		hop.Revoked = []string{"12345", revoked}
		return nil
	}
	refusedHost(t, w, h, "was revoked")
	f.onHop = func(hop *api.Hop) error { hop.Revoked = []string{"12345"}; return nil }
	if err := newSession(t, w.direct(t)).Run("true"); err != nil {
		t.Errorf("another certificate than the revoked one: %v", err)
	}
}

// refusedHost expects that no session comes to live, and that the host has let nobody in.
func refusedHost(t *testing.T, w *world, h *goHost, says string) {
	t.Helper()
	s := newSession(t, w.direct(t))
	var errs strings.Builder
	s.Stderr = &errs
	err := s.Run("true")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != exitRefused || !strings.Contains(errs.String(), says) {
		t.Errorf("got %v, %q", err, errs.String())
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
}

// TestHostCertificateRevokedWhileDialing (I8): the hop's answer does not know of it yet, and the session is not known to
// stand on it yet.
func TestHostCertificateRevokedWhileDialing(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	dialing, release := make(chan struct{}, 1), make(chan struct{})
	w := start(t, f, func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialing <- struct{}{}
			<-release
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	done := newSessionLater(t, w.direct(t))
	<-dialing
	f.carriedOut(t, api.Revocation{Index: 3, Profile: api.ProfileHost, Serial: f.hosts.last()})
	close(release)
	if err := <-done; err == nil {
		t.Error("the session came to live")
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
	refusedHost(t, w, h, "was revoked") // and so it stays
}

// TestCertificateRevokedBetweenHopAndSession (I8): the claim collects what comes while the broker's answer is on its way.
func TestCertificateRevokedBetweenHopAndSession(t *testing.T) {
	for name, rev := range map[string]func(f *fakeControl, hop *api.Hop) api.Revocation{
		"access": func(f *fakeControl, _ *api.Hop) api.Revocation {
			f.mu.Lock()
			defer f.mu.Unlock()
			return api.Revocation{Profile: api.ProfileAccess, Serial: f.hops[len(f.hops)-1].AccessSerial}
		},
		"hop": func(f *fakeControl, hop *api.Hop) api.Revocation {
			cert, err := sshca.ParseCertificate(hop.Certificate)
			if err != nil {
				f.t.Error(err)
				return api.Revocation{}
			}
			return api.Revocation{Profile: api.ProfileHop, Serial: cert.Serial}
		},
		"host": func(*fakeControl, *api.Hop) api.Revocation { return api.Revocation{Host: "web-1"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			h := f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f)
			f.onHop = func(hop *api.Hop) error {
				r := rev(f, hop)
				r.Index = 3
				f.carriedOut(t, r)
				return nil
			}
			refusedHost(t, w, h, "revoked")
			if r := f.only(t, kindStart); r.Outcome != "denied" {
				t.Errorf("reported %+v", r)
			}
		})
	}
}

// TestRevokedOuterConnection: the outer connection of ssh -J ends with its access certificate.
func TestRevokedOuterConnection(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	c := f.credential(t)
	outer := w.mustDial(t, "ada", c.signer)
	gone := ended(t, outer)
	f.carriedOut(t, api.Revocation{Index: 1, Profile: api.ProfileAccess, Serial: c.cert.Serial + 1})
	if w.through(t, outer, c) == nil {
		t.Fatal("the connection is not served")
	}
	f.only(t, kindStart) // a session that is refused waits ten seconds for a channel on which to say why
	f.carriedOut(t, api.Revocation{Index: 2, Profile: api.ProfileAccess, Serial: c.cert.Serial})
	<-gone
}

// TestRevokedFrontCertificate: neither the bastion's own key nor a mask is shown again once it was revoked, also where
// that came while it was fetched.
func TestRevokedFrontCertificate(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	serial := func(host string) uint64 {
		t.Helper()
		s, err := w.b.masks.get(t.Context(), host, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.PublicKey().(*ssh.Certificate).Serial
	}
	for i, host := range []string{"", "web-1"} {
		was := serial(host)
		if again := serial(host); again != was {
			t.Errorf("%q: certificates %d and %d", host, was, again)
		}
		f.carriedOut(t, api.Revocation{Index: int64(2*i + 1), Profile: api.ProfileFront, Serial: was + 1000})
		if again := serial(host); again != was {
			t.Errorf("%q: another one was revoked, and %d became %d", host, was, again)
		}
		f.carriedOut(t, api.Revocation{Index: int64(2*i + 2), Profile: api.ProfileFront, Serial: was})
		if again := serial(host); again == was {
			t.Errorf("%q: the revoked certificate %d is shown", host, was)
		}
	}
	f.onFront = func(r api.FrontRequest) error {
		w.b.masks.revoke(f.front.last() + 1) // the one that is about to be made
		f.set(func() { f.onFront = nil })
		return nil
	}
	if _, err := w.b.masks.get(t.Context(), "web-2", nil); !errors.Is(err, errMaskRevoked) {
		t.Errorf("got %v", err)
	}
	if _, err := w.b.masks.get(t.Context(), "web-2", nil); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// TestRetiredHostCA: with the next key exchange a session ends whose host shows a certificate of a CA that is not
// trusted any more, and one goes on whose host's CA has others beside it.
func TestRetiredHostCA(t *testing.T) {
	for name, tt := range map[string]struct {
		trust func(f *fakeControl, now *api.Trust)
		ends  bool
	}{
		"retired":    {func(f *fakeControl, now *api.Trust) { now.HostCAs = []string{f.front.line()} }, true},
		"withdrawn":  {func(_ *fakeControl, now *api.Trust) { now.HostCAs = nil }, true},
		"one beside": {func(f *fakeControl, now *api.Trust) { now.HostCAs = append(now.HostCAs, f.front.line()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f, func(c *Config) { c.Rekey = 64 << 10 })
			c := w.direct(t)
			s := newSession(t, c)
			in, err := s.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Shell(); err != nil {
				t.Fatal(err)
			}
			now := f.trust()
			tt.trust(f, now)
			if err := w.b.feed.setTrust(*now); err != nil {
				t.Fatal(err)
			}
			go func() { // until the session ends
				for block := make([]byte, 16<<10); ; {
					if _, err := in.Write(block); err != nil {
						return
					}
				}
			}()
			if !tt.ends {
				// More than a channel's window: there were exchanges on the way.
				if got, err := io.CopyN(io.Discard, out, 4<<20); err != nil {
					t.Errorf("%d bytes came back, %v", got, err)
				}
				return
			}
			go func() { _, _ = io.Copy(io.Discard, out) }()
			if end := f.only(t, kindEnd); end.Outcome != "failure" || !strings.Contains(end.Reason, errHostKey.Error()) {
				t.Errorf("reported %+v", end)
			}
		})
	}
}
