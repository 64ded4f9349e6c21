package bastion

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/broker/bastion/proxyproto"
)

func proxies(list ...string) func(*Config) {
	return func(c *Config) {
		for _, p := range list {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
		}
	}
}

// proxied dials the bastion by way of a proxy that writes header first.
func (w *world) proxied(t testing.TB, header, user string, signers ...ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if _, err := io.WriteString(nc, header); err != nil {
		t.Fatal(err)
	}
	conn, chans, reqs, err := ssh.NewClientConn(nc, w.addr, w.dialConfig(user, signers...))
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(conn, chans, reqs), nil
}

// lastHop is what was asked last.
func (f *fakeControl) lastHop() api.HopRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hops[len(f.hops)-1]
}

func v2TCP6(source string) string {
	body := netip.MustParseAddr(source).AsSlice()
	body = append(body, netip.IPv6Loopback().AsSlice()...)
	body = append(body, 0x9c, 0x40, 0, 22)
	return proxyproto.Signature + "\x21\x21" + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + string(body)
}

// TestProxiedAddressCounts: what a listed proxy names is the address in events, for the broker's
// policy and for the source-address of a certificate.
func TestProxiedAddressCounts(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, proxies("127.0.0.0/8"))
	bound := forged(t, f.credential(t), f.access, func(x *ssh.Certificate) {
		x.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24,2001:db8::/32"}
	})
	for name, c := range map[string]struct {
		header, source string
		ok             bool
	}{
		"v1":                      {"PROXY TCP4 192.0.2.7 192.0.2.9 40000 22\r\n", "192.0.2.7", true},
		"v2, IPv6":                {v2TCP6("2001:db8::7"), "2001:db8::7", true},
		"an address that may not": {"PROXY TCP4 198.51.100.7 192.0.2.9 40000 22\r\n", "198.51.100.7", false},
		"the proxy's own":         {"PROXY UNKNOWN\r\n", "127.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			refused := len(f.find(kindRefuse))
			client, err := w.proxied(t, c.header, currentLogin(t)+"%web-1", bound)
			if !c.ok {
				if err == nil {
					t.Fatal("a certificate was good from elsewhere")
				}
				eventually(t, "a report", func() bool { return len(f.find(kindRefuse)) > refused })
				if got := f.find(kindRefuse)[refused].Source; got != c.source {
					t.Errorf("reported from %s", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := newSession(t, client).Start("x"); err != nil {
				t.Fatal(err)
			}
			starts := f.find(kindStart)
			if got := starts[len(starts)-1].Source; got != c.source || f.lastHop().Source != c.source {
				t.Errorf("the session is from %s", got)
			}
		})
	}
}

// TestProxyHeaderOfOthers: a header from anywhere else is an error, and so is a listed proxy's
// connection without one. Neither is skipped as a greeting line, which RFC 4253 allows servers.
func TestProxyHeaderOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*Config)
		first  string
	}{
		"v1 of a stranger":            {proxies("192.0.2.0/24"), "PROXY TCP4 192.0.2.7 192.0.2.9 40000 22\r\n"},
		"v2 of a stranger":            {proxies("192.0.2.0/24"), v2TCP6("2001:db8::7")},
		"greeting lines":              {proxies(), "hello\r\n"},
		"a listed proxy without one":  {proxies("127.0.0.0/8"), ""},
		"a listed proxy with another": {proxies("127.0.0.0/8"), "PROXY TCP4 192.0.2.7\r\n"},
		"a second one":                {proxies("127.0.0.0/8"), "PROXY TCP4 192.0.2.7 192.0.2.9 1 2\r\nPROXY TCP4 192.0.2.8 192.0.2.9 1 2\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			w := start(t, f, c.config)
			if _, err := w.proxied(t, c.first, "ada", f.credential(t).signer); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// TestSilentProxy: header and first byte of SSH are waited for, and not for long.
func TestSilentProxy(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, proxies("127.0.0.0/8"), func(c *Config) { c.MaxHandshakes = 2 })
	for range 5 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	client, err := w.proxied(t, "PROXY TCP4 192.0.2.7 192.0.2.9 40000 22\r\n", "ada", f.credential(t).signer)
	if err != nil {
		t.Fatalf("behind a silent proxy nobody gets in: %v", err)
	}
	_ = client.Close()
}

// TestIPv6 has the bastion on [::]: people come by either family.
func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("skipped: there is no IPv6 here: %v", err)
	}
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, func(c *Config) { _ = c.Listener.Close(); c.Listener = l })
	_, port, _ := net.SplitHostPort(w.addr)
	for _, source := range []string{"127.0.0.1", "::1"} {
		w.addr = net.JoinHostPort(source, port)
		if err := newSession(t, w.direct(t)).Start("x"); err != nil {
			t.Fatal(err)
		}
		if got := f.lastHop().Source; got != source {
			t.Errorf("from %s the session is from %s", source, got)
		}
	}
}

// TestFirstBytes: what is not SSH is refused at the byte that shows it, however it arrives, and nothing
// of what is SSH is taken away.
func TestFirstBytes(t *testing.T) {
	for in, ok := range map[string]bool{"SSH-2.0-x\r\n": true, "SSH": true, "SSJ": false, "PROXY TCP4 192.0.2.1": false, "\r\nSSH-2.0-x\r\n": false, "x": false, "": true} {
		for size := range 6 {
			us, them := net.Pipe()
			raw := newBufferedConn(us, new(buffers))
			var sending sync.WaitGroup
			sending.Go(func() {
				for part := range slices.Chunk([]byte(in), size+1) {
					_, _ = them.Write(part)
				}
				_ = them.Close()
			})
			sending.Go(func() { _, _ = io.CopyN(io.Discard, them, int64(len(serverVersion)+2)) })
			_, version, err := greet(raw)
			if ok != (err == nil) || !ok && !errors.Is(err, errNotSSH) {
				t.Errorf("%q by %d: %q, %v", in, size+1, version, err)
			}
			if rest, _ := io.ReadAll(raw.r); ok && string(rest) != in {
				t.Errorf("%q by %d: left %q", in, size+1, rest)
			}
			raw.Abort()
			sending.Wait()
		}
	}
}
