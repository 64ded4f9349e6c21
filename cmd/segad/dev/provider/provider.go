package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// User is somebody who can log in. Subject is what tokens name; Email is what is typed.
type User struct {
	Email      string
	Name       string
	Subject    string
	Password   string
	TOTPSecret string // base32; "" means password only, and no "mfa" in amr
	Groups     []string
}

// Config is the provider's. Zero values mean the defaults named here.
type Config struct {
	Listener     net.Listener // required, on loopback
	Issuer       string       // default "http://" and the listener's address
	ClientID     string       // the one public client
	RedirectURIs []string     // compared exactly, port included
	Users        []User
	StateFile    string           // keys and refresh tokens survive a restart in it; "": they do not
	Now          func() time.Time // default time.Now
	Log          *slog.Logger     // default: nothing

	IDTokenTTL     time.Duration // default 1 h, as Okta's
	RefreshTTL     time.Duration // default 90 days
	RefreshLeeway  time.Duration // how long a rotated refresh token still works; default 0
	DeviceTTL      time.Duration // default 10 min
	DeviceInterval time.Duration // default 5 s
	KeysMaxAge     time.Duration // of the key set's Cache-Control; default 10 min
	ThinIDToken    bool          // groups and profile only by userinfo, as Okta documents for the code flow
}

// Provider is the OpenID provider. It is safe for concurrent use.
type Provider struct {
	cfg    Config
	host   string // of the issuer, the only Host answered
	people *directory
	keys   *keyring
	logins *logins
	grants *grants
}

// New returns a provider that Run serves. It loads or creates the state file.
func New(cfg Config) (*Provider, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil || issuer.Scheme != "http" || !isLoopback(issuer.Hostname()) || issuer.Path != "" || issuer.RawQuery != "" {
		return nil, fmt.Errorf("provider: the issuer must be http on a loopback address without a path, not %q", cfg.Issuer)
	}
	stored, err := load(cfg.StateFile)
	if err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, host: issuer.Host, people: newDirectory(cfg.Now), logins: newLogins(cfg.Now)}
	for _, u := range cfg.Users {
		if err := p.people.set(u); err != nil {
			return nil, err
		}
	}
	if p.keys, err = newKeyring(stored.Keys); err != nil {
		return nil, err
	}
	p.grants = newGrants(cfg, stored.Grants, p.save)
	return p, p.save()
}

func (c Config) withDefaults() (Config, error) {
	if c.Listener == nil || c.ClientID == "" {
		return c, errors.New("provider: a listener and a client ID are required")
	}
	addr, ok := c.Listener.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.IsLoopback() {
		return c, fmt.Errorf("provider: refuse to serve on %s, which is not a loopback address", c.Listener.Addr())
	}
	if c.Issuer == "" {
		c.Issuer = "http://" + addr.String()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&c.IDTokenTTL: time.Hour, &c.RefreshTTL: 90 * 24 * time.Hour, &c.DeviceTTL: 10 * time.Minute,
		&c.DeviceInterval: 5 * time.Second, &c.KeysMaxAge: 10 * time.Minute,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	return c, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Issuer returns the issuer identifier.
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// Rotate makes the announced key sign and announces a new one; the one that signed before stays
// published until DropRetired.
func (p *Provider) Rotate() error {
	if err := p.keys.rotate(); err != nil {
		return err
	}
	return p.save()
}

// DropRetired withdraws the keys that no longer sign.
func (p *Provider) DropRetired() error {
	p.keys.dropRetired()
	return p.save()
}

// Disable ends all that a user can do: no login, no refresh, no userinfo.
func (p *Provider) Disable(email string) { p.people.disable(email) }

// Run serves until ctx ends, and returns when every request is done.
func (p *Provider) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler: p.routes(), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(p.cfg.Listener) }()
	p.cfg.Log.Info("the development identity provider listens", "issuer", p.cfg.Issuer)
	select {
	case err := <-served:
		return fmt.Errorf("provider: serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close()
	}
	<-served
	return nil
}

// routes returns the handler of everything.
func (p *Provider) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.jwks)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /login/password", p.password)
	mux.HandleFunc("POST /login/totp", p.totp)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	mux.HandleFunc("POST /device/authorize", p.deviceAuthorize)
	mux.HandleFunc("GET /device", p.devicePage)
	mux.HandleFunc("POST /device", p.deviceCode)
	mux.HandleFunc("POST /device/approve", p.deviceApprove)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != p.host { // a page of the web that reaches loopback by a name of its own
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		mux.ServeHTTP(w, r)
	})
}

// discovery serves the metadata (OpenID Connect Discovery §3, RFC 8414, RFC 9207).
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	at := func(path string) string { return p.cfg.Issuer + path }
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         p.cfg.Issuer,
		"authorization_endpoint":                         at("/authorize"),
		"token_endpoint":                                 at("/token"),
		"jwks_uri":                                       at("/keys"),
		"userinfo_endpoint":                              at("/userinfo"),
		"revocation_endpoint":                            at("/revoke"),
		"device_authorization_endpoint":                  at("/device/authorize"),
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", grantDevice},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"scopes_supported":                               knownScopes(),
		"token_endpoint_auth_methods_supported":          []string{"none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"acr_values_supported":                           knownACRs(),
		"authorization_response_iss_parameter_supported": true,
	})
}
