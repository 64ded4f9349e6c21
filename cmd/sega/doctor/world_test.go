package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/broker/api"
	"sega/cmd/segad/dev/freeport"
)

// machine is a machine of a test, in which all is well until something is broken.
type machine struct {
	*testing.T
	World
	vars   map[string]string
	broker *httptest.Server
	idp    *httptest.Server

	mu     sync.Mutex
	date   time.Time // what the servers say, zero: the truth
	config api.Configuration
	ready  string // what /readyz says, "" for ready
	note   string // the checkpoint
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, vars: map[string]string{}, note: "checkpoint"}
	m.idp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.head(w)
		u := m.idp.URL
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": u, "authorization_endpoint": u + "/a", "token_endpoint": u + "/t", "jwks_uri": u + "/k"})
	}))
	t.Cleanup(m.idp.Close)
	m.broker = httptest.NewUnstartedServer(http.HandlerFunc(m.serve))
	m.broker.Config.ErrorLog = log.New(io.Discard, "", 0)
	m.broker.StartTLS()
	t.Cleanup(m.broker.Close)
	m.config = api.Configuration{Origin: m.broker.URL, Issuer: m.idp.URL, LogKey: "key", RedirectPorts: []int{freeport.For(t)}, Version: "1.0"}

	home := filepath.Join(t.TempDir(), "sega")
	if err := os.MkdirAll(filepath.Join(home, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(m.broker.Certificate())
	pinned := m.config
	m.World = World{Version: "1.0", Home: home, User: t.TempDir(), Now: time.Now, Pinned: &pinned,
		Getenv: func(n string) string { return m.vars[n] },
		Environ: func() (all []string) {
			for n, v := range m.vars {
				all = append(all, n+"="+v)
			}
			return all
		},
		Origin: func() (string, error) { return m.broker.URL, nil },
		Transport: func() (*http.Transport, error) {
			return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, nil
		},
		Explain:  func(err error) (string, string) { return err.Error(), "mend it" },
		Secrets:  func() (string, string) { return "file", "key beside the file" },
		Login:    func(context.Context) (Login, error) { return m.session(), nil },
		Bastions: []api.BastionAddress{{Name: "bastion-1", Address: "10.0.0.1:22"}, {Name: "bastion-2", Address: "10.0.0.2:22"}},
		Reach:    func(context.Context, string) error { return nil },
		Agent:    func(context.Context) (Agent, error) { return Agent{Version: "1.0", State: "ready", Healthy: true}, nil },
		Observe: func(_ context.Context, note []byte) (int64, error) {
			if string(note) != "checkpoint" {
				return 0, errors.New("forked")
			}
			return 7, nil
		},
		AgentSocket: filepath.Join(home, "agent", "socket"),
		AWS:         func() (AWS, error) { return AWS{Profiles: []string{"default", "dev"}, Ours: 1}, nil },
	}
	return m
}

func (m *machine) head(w http.ResponseWriter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !m.date.IsZero() {
		w.Header().Set("Date", m.date.UTC().Format(http.TimeFormat))
	}
}

func (m *machine) serve(w http.ResponseWriter, r *http.Request) {
	m.head(w)
	switch r.URL.Path {
	case api.RouteConfiguration:
		w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString([]byte(m.note)))
		_ = json.NewEncoder(w).Encode(m.config)
	case api.RouteReady:
		if m.ready != "" {
			http.Error(w, m.ready, http.StatusServiceUnavailable)
		}
	}
}

func (m *machine) session() Login {
	now := m.Now()
	return Login{ID: "ses_1", Origin: m.broker.URL, Person: "alice@example.com", MFA: true, Renewable: true, Expires: now.Add(time.Hour), NotAfter: now.Add(12 * time.Hour),
		Broker: policy{status: api.Status{MFA: true, Expires: now.Add(time.Hour), NotAfter: now.Add(12 * time.Hour)},
			roles: []api.Role{{Name: "dev", Allowed: true}, {Name: "prod", Why: "needs oncall"}}, hosts: []api.Host{{Name: "web-1", Allowed: true}}}}
}

// policy is what the broker says to a session.
type policy struct {
	status api.Status
	roles  []api.Role
	hosts  []api.Host
	err    error
}

func (p policy) Status(context.Context) (api.Status, error) { return p.status, p.err }
func (p policy) Roles(context.Context) (api.Roles, error)   { return api.Roles{Roles: p.roles}, p.err }
func (p policy) Hosts(context.Context) (api.Hosts, error)   { return api.Hosts{Hosts: p.hosts}, p.err }

// examine runs all checks.
func (m *machine) examine() (found []Finding, failed int) {
	m.Helper()
	failed, err := Run(m.Context(), Checks(m.World), 8*time.Second, func(f Finding) error {
		found = append(found, f)
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
	return found, failed
}

// of returns what a check found.
func of(found []Finding, check string) (out []Finding) {
	for _, f := range found {
		if f.Check == check {
			out = append(out, f)
		}
	}
	return out
}

// expect asks for a finding of a check, with words of its text and of its remedy.
func (m *machine) expect(found []Finding, check string, state State, text, mend string) {
	m.Helper()
	for _, f := range of(found, check) {
		if f.State == state && strings.Contains(f.Text, text) && strings.Contains(f.Mend, mend) {
			return
		}
	}
	m.Errorf("no finding of %s is %s with %q and %q: %+v", check, state, text, mend, of(found, check))
}

// TestMain hides the programs of this machine: those of a test are its own, and AWS's takes a second to start.
func TestMain(m *testing.M) {
	if err := os.Setenv("PATH", ""); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
