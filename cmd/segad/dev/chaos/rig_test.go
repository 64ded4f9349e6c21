//go:build linux

package chaos

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
	"sega/sshca"
)

// Names of what the rig configures.
const (
	brokerNode  = "chaos-broker"
	bastionName = "dev-bastion"
	hostName    = "dev-host"
	goBastion   = "go-bastion" // a bastion that is this test, and speaks to the broker alone
	goSessions  = "go-sessions"
)

// rig is a broker and a bastion under the test's own control, on the provider, STS double and host
// of a dev environment. Its Env leads sega and `segad dev login` to them.
type rig struct {
	*devtest.Env
	t       *testing.T
	file    config.Broker
	bfile   config.BastionServer
	broker  *server
	server  source // of PostgreSQL, where the broker is on it
	bastion *server
	web     *http.Client
	front   ssh.PublicKey // the CA of bastions, known from the broker's first start on
}

// newRig writes the configuration, as edit changes it, and starts nothing.
func newRig(t *testing.T, edit func(*rig)) *rig {
	t.Helper()
	up := devtest.Up(t)
	env := *up
	env.Data = filepath.Join(up.Data, "chaos")
	r := &rig{Env: &env, t: t}
	for _, dir := range []string{"recordings", "bastion", "log"} {
		if err := os.MkdirAll(r.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.readFiles(up.Data)
	if edit != nil {
		edit(r)
	}
	r.writeFiles(up.Data)
	segad := filepath.Join(up.Bin, "segad")
	r.broker = &server{t: t, argv: []string{segad, "broker", "--config", r.path("broker.yaml")}, log: r.path("log", "broker.log")}
	r.bastion = &server{t: t, argv: []string{segad, "bastion", "--config", r.path("bastion.yaml")}, log: r.path("log", "bastion.log")}
	r.web = r.webClient()
	t.Cleanup(r.end)
	return r
}

// startRig is newRig with both servers running.
func startRig(t *testing.T, edit func(*rig)) *rig {
	t.Helper()
	r := newRig(t, edit)
	r.startBroker()
	r.startBastion()
	return r
}

func (r *rig) path(elem ...string) string { return filepath.Join(append([]string{r.Data}, elem...)...) }

// readFiles takes over the environment's files, with paths made absolute and all that a server
// writes in the rig's own folder.
func (r *rig) readFiles(data string) {
	r.t.Helper()
	name := filepath.Join(data, "broker.yaml")
	file, err := config.LoadBroker(name)
	if err != nil {
		r.t.Fatal(err)
	}
	bname := filepath.Join(data, "bastion.yaml")
	bfile, err := config.LoadBastion(bname)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range []*string{&file.TLS.Certificate, &file.TLS.Key, &file.LogKey, &file.Policy, &file.AWS.Credentials,
		&file.CA.Access[0], &file.CA.Hop[0], &file.CA.Front[0], &file.CA.Host[0], &file.CA.Passphrase, &bfile.CAFile} {
		*p = config.Path(name, *p)
	}
	for i, key := range file.Issuer.Keys {
		file.Issuer.Keys[i] = config.Path(name, key)
	}
	file.Node, file.Database, file.Recordings = brokerNode, r.path("sega.db"), r.path("recordings")
	file.SessionLimits = config.SessionLimits{PerPerson: new(int), PerHost: new(int)} // what a kill leaves open is no test of limits
	file.Listen = freeport.Address(freeport.For(r.t))
	file.Origin = "https://" + file.Listen
	bfile.Listen, bfile.Broker, bfile.Data, bfile.Recordings = freeport.Address(freeport.For(r.t)), file.Origin, r.path("bastion"), file.Recordings
	file.Bastions = nil
	for _, b := range []string{bastionName, goBastion, goSessions} {
		file.Bastions = append(file.Bastions, config.Bastion{Name: b, Address: bfile.Listen, Egress: []string{"127.0.0.1/32"}, JoinToken: r.path(b + ".join")})
		writeFile(r.t, r.path(b+".join"), []byte("sega_join_chaos_"+b+"\n"))
	}
	bfile.JoinToken = r.path(bastionName + ".join")
	r.file, r.bfile = file, bfile
}

// writeFiles writes the servers' files, and a dev.json that names them.
func (r *rig) writeFiles(data string) {
	r.t.Helper()
	for name, v := range map[string]any{"broker.yaml": r.file, "bastion.yaml": r.bfile} {
		raw, err := yaml.Marshal(v)
		if err != nil {
			r.t.Fatal(err)
		}
		writeFile(r.t, r.path(name), raw)
	}
	r.Broker, r.Bastion, r.Database = r.file.Origin, r.bfile.Listen, r.file.Database
	r.Dev.Env = maps.Clone(r.Dev.Env)
	r.Dev.Env["SEGA_BROKER"], r.Dev.Env["SEGA_DEV"] = r.file.Origin, r.Data
	raw, err := json.Marshal(r.Dev)
	if err != nil {
		r.t.Fatal(err)
	}
	writeFile(r.t, r.path("dev.json"), raw)
	if err := os.Symlink(filepath.Join(data, "reviewer.age"), r.path("reviewer.age")); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) roots() *x509.CertPool {
	r.t.Helper()
	pem, err := os.ReadFile(r.bfile.CAFile)
	if err != nil {
		r.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

func (r *rig) webClient() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: r.roots(), MinVersion: tls.VersionTLS12}}}
}

// get returns the body of one of the broker's plain pages, an error where the status is not 200.
func (r *rig) get(path string) (string, error) {
	resp, err := r.web.Get(r.file.Origin + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// startBroker starts the broker and waits until it is ready.
func (r *rig) startBroker() {
	r.t.Helper()
	r.broker.start()
	r.awaitBroker()
	if r.front == nil {
		r.front = r.frontCA()
	}
}

func (r *rig) frontCA() ssh.PublicKey {
	r.t.Helper()
	body, err := r.get(api.RouteConfiguration)
	if err != nil {
		r.t.Fatal(err)
	}
	var conf api.Configuration
	if err := json.Unmarshal([]byte(body), &conf); err != nil {
		r.t.Fatal(err)
	}
	bundle, err := sshca.ParseBundle(conf.FrontCAs)
	if err != nil || len(bundle) == 0 {
		r.t.Fatalf("front CAs: %v", err)
	}
	return bundle[0]
}

func (r *rig) awaitBroker() {
	r.t.Helper()
	devtest.Eventually(r.t, 20*time.Second, "the broker is not ready", func() error {
		_, err := r.get("/readyz")
		if !r.broker.running() {
			r.t.Fatalf("the broker ended: %s\n%s", r.broker.cmd.ProcessState, r.broker.tail(3000))
		}
		return err
	})
}

// startBastion starts the bastion and waits until it follows the feed.
func (r *rig) startBastion(more ...string) {
	r.t.Helper()
	r.bastion.start(more...)
	r.awaitFeed()
}

func (r *rig) awaitFeed() {
	r.t.Helper()
	devtest.Eventually(r.t, 20*time.Second, "the bastion does not follow the feed", func() error {
		if !r.bastion.running() {
			r.t.Fatalf("the bastion ended: %s\n%s", r.bastion.cmd.ProcessState, r.bastion.tail(3000))
		}
		body, err := r.get("/metrics")
		if err == nil && !strings.Contains(body, "\nsega_feeds 1") {
			err = errors.New("sega_feeds is not 1")
		}
		return err
	})
}

// end stops what still runs; a server that was stopped by the test has its code checked there.
func (r *rig) end() {
	for _, s := range []*server{r.bastion, r.broker} {
		if !s.running() {
			continue
		}
		if code := s.stop(); code != 0 {
			r.t.Errorf("%v: exit %d", s.argv, code)
		}
	}
	if r.t.Failed() {
		r.t.Logf("broker:\n%s\nbastion:\n%s", r.broker.tail(4000), r.bastion.tail(4000))
	}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
