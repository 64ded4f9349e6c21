package client

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
)

// through lets a client go through a proxy, which net/http would not use for loopback.
func through(t *testing.T, proxy string) error {
	t.Helper()
	c, err := New(Config{Origin: "https://sega.example", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport.(*http.Transport).Proxy = http.ProxyURL(u)
	_, err = c.Configuration(context.Background())
	return err
}

// TestProxies: what a proxy does is told as the proxy's doing, without its address or password.
func TestProxies(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://canary-user:canary-password@" + dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		status int
		want   string
	}{
		"it wants a password": {http.StatusProxyAuthRequired, "the proxy wants a user name and a password"},
		"it refuses":          {http.StatusForbidden, "the proxy refuses to connect: HTTP status 403"},
		"it is gone":          {0, "the proxy does not answer: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			address := gone
			if tc.status != 0 {
				proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tc.status) }))
				defer proxy.Close()
				address = strings.Replace(proxy.URL, "http://", "http://canary-user:canary-password@", 1)
			}
			err := through(t, address)
			p := api.AsProblem(err)
			if p.Kind != api.KindUnreachable || !strings.Contains(p.Detail, tc.want) || !strings.Contains(p.Hint, "HTTPS_PROXY") {
				t.Errorf("got %+v", p)
			}
			if strings.Contains(p.Detail+p.Hint, "canary") {
				t.Errorf("leaks: %s %s", p.Detail, p.Hint)
			}
		})
	}
}

// TestProofOfABrokerThatIsGone: that a checkpoint could not be proven because the network broke is no sign of a rewritten log.
func TestProofOfABrokerThatIsGone(t *testing.T) {
	c := newBroker(t, answers(api.Roles{})).client(t, func(cfg *Config) {
		cfg.OnCheckpoint = func([]byte) error { return api.Errorf(api.KindUnreachable, "gone") }
	})
	if _, err := c.Roles(context.Background()); !api.IsKind(err, api.KindUnreachable) || strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}
