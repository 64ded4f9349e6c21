package provider_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/browser"
	"sega/cmd/segad/dev/freeport"
	"sega/cmd/segad/dev/provider"
	"sega/idp"
	"sega/keychain/secret"
)

const clientID = "sega-test"

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a running provider, what the laptop sees of it, and what the broker does.
type world struct {
	*provider.Provider
	clock    *clock
	idp      *idp.Provider
	verifier *idp.Verifier
	ports    []int
}

func ann() provider.User {
	return provider.User{Email: "ann@corp.example", Name: "Ann", Subject: "00uann", Password: "correct horse",
		TOTPSecret: "JBSWY3DPEHPK3PXP", Groups: []string{"sega-users", "sre"}}
}

func bob() provider.User {
	return provider.User{Email: "bob@corp.example", Name: "Bob", Subject: "00ubob", Password: "battery staple"}
}

func credentials(u provider.User) browser.Credentials {
	return browser.Credentials{Email: u.Email, Password: u.Password, TOTPSecret: u.TOTPSecret}
}

// keyState returns the content of a state file with keys in it: RSA keys take long to make.
var keyState = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "provider")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	path := filepath.Join(dir, "state")
	if _, err := provider.New(provider.Config{Listener: ln, ClientID: clientID, StateFile: path}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// freePorts returns ports of 127.0.0.1 that nobody holds right now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		ports = append(ports, freeport.For(t, ports...))
	}
	return ports
}

// newWorld runs a provider until the test ends. change may alter its configuration.
func newWorld(t *testing.T, change func(*provider.Config)) *world {
	t.Helper()
	w := &world{clock: &clock{t: time.Now().Truncate(time.Second)}, ports: freePorts(t, 2)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := provider.Config{Listener: ln, ClientID: clientID, Users: []provider.User{ann(), bob()},
		StateFile: filepath.Join(t.TempDir(), "state"), Now: w.clock.now}
	for _, port := range w.ports {
		cfg.RedirectURIs = append(cfg.RedirectURIs, fmt.Sprintf("http://127.0.0.1:%d/callback", port))
	}
	state, err := keyState()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.StateFile, state, 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	w.Provider, err = provider.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w.Provider)
	w.connect(t)
	return w
}

// run serves p until the test ends.
func run(t *testing.T, p *provider.Provider) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// connect discovers the provider, and makes the broker's verifier under the world's clock.
func (w *world) connect(t *testing.T) {
	t.Helper()
	var err error
	if w.idp, err = idp.Discover(t.Context(), w.Issuer(), nil); err != nil {
		t.Fatal(err)
	}
	w.verifier, err = idp.NewVerifier(w.idp, idp.VerifierConfig{ClientID: clientID, ACRValues: []string{"urn:okta:loa:2fa:any"}, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
}

// login is what the laptop asks for.
func (w *world) login(nonce string) idp.Login {
	return idp.Login{ClientID: clientID, Scopes: []string{"profile", "email", "groups", "offline_access"}, Ports: w.ports, Nonce: nonce}
}

// browser returns a browser with the world's clock in its authenticator.
func (w *world) browser() *browser.Browser { return &browser.Browser{Now: w.clock.now} }

// browserLogin logs in whole, with the form pages.
func (w *world) browserLogin(ctx context.Context, l idp.Login, c browser.Credentials) (idp.Tokens, error) {
	b := w.browser()
	return w.idp.Browser(ctx, l, func(address string) error { return b.Visit(ctx, address, c) })
}

func (w *world) mustLogin(t *testing.T) idp.Tokens {
	t.Helper()
	tokens, err := w.browserLogin(t.Context(), w.login("n-1"), credentials(ann()))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// portText is a port as it stands in an address.
func portText(port int) string { return strconv.Itoa(port) }

func text(s secret.Secret) string { return string(s.Reveal()) }
