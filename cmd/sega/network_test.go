package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
	"sega/broker/client"
)

// authority is a CA of a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // PEM
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	a := authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	der, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.key = key
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign makes a key and a certificate for it, its own issuer where there is none yet.
func (a authority) sign(t *testing.T, c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// serve answers over TLS with a certificate of the authority.
func (a authority) serve(t *testing.T, c *x509.Certificate, h http.Handler) (origin string) {
	t.Helper()
	der, key := a.sign(t, c)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

func loopback() *x509.Certificate {
	return &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

// page is what a captive portal or a proxy shows.
func page(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html>Welcome to the hotel</html>")
	})
}

func answering(contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
}

// listening gives what every connection is answered with, byte for byte; nothing: it is held open in silence.
func listening(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }() // with the listener
			_, _ = io.WriteString(conn, answer)
			if answer != "" {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// refusing is an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestNetworkFailures: what a broker's network does to `sega login`, by real listeners.
func TestNetworkFailures(t *testing.T) {
	ours, proxys := newAuthority(t, "Corp CA"), newAuthority(t, "Corp Proxy CA")
	late, early := loopback(), loopback()
	late.NotBefore, late.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	early.NotBefore, early.NotAfter = time.Now().Add(2*time.Hour), time.Now().Add(24*time.Hour)
	redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://portal.example/login", http.StatusFound)
	})
	for name, c := range map[string]struct {
		origin string
		ca     string
		kind   api.Kind
		exit   int
		detail []string
		hint   string
	}{
		"another CA":               {origin: proxys.serve(t, loopback(), page(200)), ca: ours.file, kind: kindUntrusted, exit: 7, detail: []string{"not trusted", "CN=Corp Proxy CA"}, hint: "SEGA_CA_FILE"},
		"a CA of nobody's":         {origin: proxys.serve(t, loopback(), page(200)), kind: kindUntrusted, exit: 7, detail: []string{"not trusted", "CN=Corp Proxy CA"}, hint: "SEGA_CA_FILE"},
		"another name":             {origin: ours.serve(t, &x509.Certificate{DNSNames: []string{"other.example"}}, page(200)), ca: ours.file, kind: kindUntrusted, exit: 7, detail: []string{"made out to other.example", "CN=Corp CA"}, hint: "SEGA_BROKER"},
		"it has ended":             {origin: ours.serve(t, late, page(200)), ca: ours.file, kind: kindUntrusted, exit: 7, detail: []string{"it ended on", "this machine's clock says"}, hint: "clock"},
		"it has not begun":         {origin: ours.serve(t, early, page(200)), ca: ours.file, kind: kindClock, exit: 7, detail: []string{"it begins on", "this machine's clock says"}, hint: "set this machine's clock"},
		"plain HTTP":               {origin: strings.Replace(httpServer(t), "http://", "https://", 1), kind: kindForeign, exit: 7, detail: []string{"plain HTTP"}, hint: "address"},
		"not TLS at all":           {origin: "https://" + listening(t, "SSH-2.0-OpenSSH_9.9\r\n"), kind: api.KindUnreachable, exit: 7, detail: []string{"does not speak TLS"}, hint: "address"},
		"a captive portal":         {origin: ours.serve(t, loopback(), page(200)), ca: ours.file, kind: kindForeign, exit: 7, detail: []string{"another content type"}, hint: "SEGA_BROKER"},
		"a portal that redirects":  {origin: ours.serve(t, loopback(), redirect), ca: ours.file, kind: kindForeign, exit: 7, detail: []string{"redirect"}, hint: "browser"},
		"a portal that says so":    {origin: ours.serve(t, loopback(), page(511)), ca: ours.file, kind: kindForeign, exit: 7, detail: []string{"HTTP status 511"}, hint: "SEGA_BROKER"},
		"another server's refusal": {origin: ours.serve(t, loopback(), http.NotFoundHandler()), ca: ours.file, kind: kindForeign, exit: 7, detail: []string{"HTTP status 404"}, hint: "SEGA_BROKER"},
		"another server's JSON":    {origin: ours.serve(t, loopback(), answering("application/json", `{"hello":"world"}`)), ca: ours.file, kind: kindForeign, exit: 7, detail: []string{"not as a sega broker does"}, hint: "SEGA_BROKER"},
		"a balancer without it":    {origin: ours.serve(t, loopback(), page(503)), ca: ours.file, kind: api.KindUnreachable, exit: 7, detail: []string{"HTTP status 503"}, hint: "proxy"},
		"another broker":           {origin: ours.serve(t, loopback(), answering("application/json", `{"origin":"https://other.example"}`)), ca: ours.file, kind: kindConfig, exit: 1, detail: []string{"says that it is https://other.example"}, hint: "sega login https://other.example"},
		"refused":                  {origin: "https://" + refusing(t), kind: api.KindUnreachable, exit: 7, detail: []string{"connection refused"}, hint: "network"},
		"no such name":             {origin: "https://sega.invalid", kind: api.KindUnreachable, exit: 7, detail: []string{"its name is not known"}, hint: "sega.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			a, out, talk := testApp(t, "SEGA_CA_FILE="+c.ca)
			code := run(t.Context(), []string{"login", c.origin, "--json"}, a)
			got := oneObject(t, talk.String())
			if code != c.exit || got.Exit != c.exit || got.Kind != c.kind || !strings.Contains(got.Hint, c.hint) || out.Len() > 0 {
				t.Errorf("exit %d, want %d, %s, with a hint of %q: %+v", code, c.exit, c.kind, c.hint, got)
			}
			for _, want := range c.detail {
				if !strings.Contains(got.Detail, want) {
					t.Errorf("no %q in %q", want, got.Detail)
				}
			}
		})
	}
}

// TestSilentBroker: a broker that accepts connections and says nothing is given up.
func TestSilentBroker(t *testing.T) {
	c, err := client.New(client.Config{Origin: "https://" + listening(t, ""), Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Configuration(t.Context())
	if got := explanationOf(err, "sega"); got.Kind != api.KindUnreachable || got.Exit != 7 || !strings.Contains(got.Detail, "no answer in time") || !strings.Contains(got.Hint, "network") {
		t.Errorf("got %+v", got)
	}
}

// TestIdentityProviderFailures: the same of the identity provider, after a broker that is good.
func TestIdentityProviderFailures(t *testing.T) {
	ours, proxys := newAuthority(t, "Corp CA"), newAuthority(t, "Corp Proxy CA")
	for name, c := range map[string]struct {
		issuer string
		kind   api.Kind
		exit   int
		detail []string
		hint   string
	}{
		"a proxy's certificate": {proxys.serve(t, loopback(), page(200)), kindUntrusted, 7, []string{"certificate of the identity provider at 127.0.0.1:", "CN=Corp Proxy CA"}, "system's trust"},
		"refused":               {"https://" + refusing(t), kindIDPUnreachable, 7, []string{"the identity provider at 127.0.0.1:", "connection refused"}, "sega doctor"},
		"no such name":          {"https://idp.invalid", kindIDPUnreachable, 7, []string{"the identity provider at idp.invalid cannot be reached: its name is not known"}, "sega doctor"},
		"a page":                {httpServer(t), kindIDPUnreachable, 7, []string{"no readable discovery document"}, "sega doctor"},
		"another issuer":        {jsonServer(t, `{"issuer":"https://other.example"}`), kindIDPInvalid, 1, []string{"names another issuer, https://other.example", "byte for byte"}, "identity provider"},
		"no issuer":             {"ftp://idp.example", kindIDPInvalid, 1, []string{"the issuer must use https"}, "identity provider"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, talk := testApp(t, "SEGA_CA_FILE="+ours.file)
			var origin string
			origin = ours.serve(t, loopback(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(api.Configuration{Origin: origin, Issuer: c.issuer, LogKey: testLogKey})
			}))
			code := run(t.Context(), []string{"login", origin, "--json"}, a)
			got := oneObject(t, talk.String())
			if code != c.exit || got.Kind != c.kind || !strings.Contains(got.Hint, c.hint) {
				t.Errorf("exit %d, want %d, %s, with a hint of %q: %+v", code, c.exit, c.kind, c.hint, got)
			}
			for _, want := range c.detail {
				if !strings.Contains(got.Detail, want) {
					t.Errorf("no %q in %q", want, got.Detail)
				}
			}
		})
	}
}

// testLogKey is the public key of a log; nothing is signed with it.
const testLogKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW" // of the documentation of sumdb/note

func httpServer(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(page(200))
	t.Cleanup(srv.Close)
	return srv.URL
}

func jsonServer(t *testing.T, body string) string {
	t.Helper()
	srv := httptest.NewServer(answering("application/json", body))
	t.Cleanup(srv.Close)
	return srv.URL
}
