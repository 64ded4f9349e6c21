package awssts

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		name, region, endpoint string
		ok                     bool
	}{
		{"AWS itself", "eu-central-1", "", true},
		{"GovCloud", "us-gov-west-1", "", true},
		{"https", "eu-central-1", "https://vpce-1.sts.eu-central-1.vpce.amazonaws.com", true},
		{"http on loopback", "eu-central-1", "http://127.0.0.1:4566", true},
		{"http on IPv6 loopback", "eu-central-1", "http://[::1]:4566/", true},
		{"http on loopback by name", "eu-central-1", "http://localhost:4566", false},
		{"http elsewhere", "eu-central-1", "http://10.0.0.1:4566", false},
		{"http of a name that starts like loopback", "eu-central-1", "http://127.0.0.1.evil.example", false},
		{"user in the address", "eu-central-1", "https://a:b@sts.example", false},
		{"path", "eu-central-1", "https://sts.example/x", false},
		{"query", "eu-central-1", "https://sts.example/?x=1", false},
		{"other scheme", "eu-central-1", "ftp://sts.example", false},
		{"no scheme", "eu-central-1", "sts.example", false},
		{"no region", "", "", false},
		{"a region that is a host", "evil.example/", "", false},
		{"a region with a newline", "eu-central-1\n", "", false},
		{"the pseudo region", "aws-global", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(context.Background(), Config{Region: tt.region, Endpoint: tt.endpoint, Credentials: canaries(), Chained: no()})
			if (err == nil) != tt.ok {
				t.Errorf("New: %v; want ok %v", err, tt.ok)
			}
		})
	}
}

func TestChainedIsFoundOut(t *testing.T) {
	tests := []struct {
		arn     string
		chained bool
	}{
		{"arn:aws:iam::111111111111:user/broker", false},
		{"arn:aws:iam::111111111111:root", false},
		{"arn:aws:sts::111111111111:assumed-role/broker/i-0123", true},
		{"arn:aws-cn:sts::111111111111:assumed-role/broker/i-0123", true},
		{"arn:aws-us-gov:sts::111111111111:assumed-role/broker/i-0123", true},
		{"arn:aws:sts::111111111111:federated-user/broker", false},
		{"", true},
	}
	for _, tt := range tests {
		t.Run(tt.arn, func(t *testing.T) {
			f := newFake(t, func(int, url.Values) (int, string) { return 200, identityXML(tt.arn) })
			m := newMinter(t, f.URL, func(c *Config) { c.Chained = nil })
			if chained, known := m.Chained(); chained != tt.chained || !known {
				t.Errorf("chained %v, known %v; want %v", chained, known, tt.chained)
			}
			r := request()
			r.PolicyMax, r.RoleMax = 12*time.Hour, 12*time.Hour
			c, err := m.Plan(r)
			if err != nil || (c.Duration == time.Hour) != tt.chained {
				t.Errorf("plan gives %v, %v", c.Duration, err)
			}
		})
	}
}

// TestStartWithoutAWS: a broker starts while AWS is away, holds sessions to an hour until it knows
// better, and then knows better.
func TestStartWithoutAWS(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(n int, form url.Values) (int, string) {
		if form.Get("Action") == "AssumeRole" {
			return grants(n, form)
		}
		if n < 3 { // all attempts of the first call
			return 503, ""
		}
		return 200, identityXML("arn:aws:iam::111111111111:user/broker")
	})
	m := newMinter(t, f.URL, func(c *Config) { c.Chained = nil })
	r := request()
	r.PolicyMax, r.RoleMax = 2*time.Hour, 2*time.Hour
	if c, err := m.Plan(r); err != nil || c.Duration != time.Hour {
		t.Errorf("unknown caller: plan gives %v, %v; want an hour", c.Duration, err)
	}
	if res, err := m.Assume(context.Background(), r); err != nil || res.Duration != 2*time.Hour {
		t.Errorf("known caller: %v, %v; want two hours", res.Duration, err)
	}
}

func TestRefusedBrokerDoesNotStart(t *testing.T) {
	f := newFake(t, func(int, url.Values) (int, string) { return 403, errorXML("InvalidClientTokenId", canaryToken) })
	_, err := New(context.Background(), Config{Region: "eu-central-1", Endpoint: f.URL, Credentials: canaries()})
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindCredentials {
		t.Errorf("New: %v", err)
	}
	leaks(t, err)
}

// hosts records where requests go, and sends none.
type hosts struct {
	asked func()     // ends the call, which would be tried again
	mu    sync.Mutex // the SDK fetches credentials in a goroutine that may outlive the call
	list  []string
}

func (h *hosts) seen() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.list = append(h.list, r.URL.Scheme+"://"+r.URL.Host)
	h.mu.Unlock()
	h.asked()
	return nil, errors.New("not sent")
}

// TestAmbientEndpointIsIgnored: neither the environment nor a profile redirects the broker's calls,
// with its own credentials or with those that the SDK's chain fetches from STS.
func TestAmbientEndpointIsIgnored(t *testing.T) {
	dir := t.TempDir()
	token, profile := filepath.Join(dir, "token"), filepath.Join(dir, "config")
	for path, text := range map[string]string{token: "jwt", profile: "[default]\nendpoint_url = http://evil.example\nregion = us-west-2\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range map[string]string{"AWS_ENDPOINT_URL": "http://evil.example", "AWS_ENDPOINT_URL_STS": "http://evil.example", "AWS_CONFIG_FILE": profile,
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"), "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": adminARN, "AWS_REGION": "us-west-2",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CA_BUNDLE": ""} {
		t.Setenv(k, v)
	}
	tests := []struct {
		name, endpoint, want string
		chain                bool
	}{
		{"own credentials, AWS", "", "https://sts.eu-central-1.amazonaws.com", false},
		{"own credentials, endpoint", "https://sts.example", "https://sts.example", false},
		{"chain, AWS", "", "https://sts.eu-central-1.amazonaws.com", true},
		{"chain, endpoint", "https://sts.example", "https://sts.example", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			h := &hosts{asked: cancel}
			m := newMinter(t, tt.endpoint, func(c *Config) {
				c.HTTP = &http.Client{Transport: h}
				if tt.chain {
					c.Credentials = nil
				}
			})
			if _, err := m.Assume(ctx, request()); err == nil {
				t.Fatal("a call that was never sent succeeded")
			}
			if len(h.seen()) == 0 {
				t.Fatal("no request was made")
			}
			for _, s := range h.seen() {
				if s != tt.want {
					t.Errorf("a request went to %s; want %s", s, tt.want)
				}
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	thief := newFake(t, grants)
	f := newFake(t, func(int, url.Values) (int, string) { return 302, thief.URL })
	_, err := newMinter(t, f.URL, nil).Assume(context.Background(), request())
	if err == nil || len(thief.calls()) != 0 {
		t.Errorf("error %v, %d requests at the redirect's target", err, len(thief.calls()))
	}
}

func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(int, url.Values) (int, string) { return 200, strings.Repeat("x", maxAnswer+1) })
	_, err := newMinter(t, f.URL, nil).Assume(context.Background(), request())
	var e *Error
	if !errors.As(err, &e) || !e.Ambiguous {
		t.Errorf("%#v", e)
	}
}
