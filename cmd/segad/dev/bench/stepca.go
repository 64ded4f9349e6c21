//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"
)

// stepCAModule is what is measured beside the broker. It is built from the module proxy into the run's own
// folder, without cgo (which it needs for smart cards alone), and is no part of go.mod.
const stepCAModule = "github.com/smallstep/certificates/cmd/step-ca@v0.30.2"

// stepServer is a step-ca with a JWK provisioner and badger, the CA's key an Ed25519 file as the broker's is.
type stepServer struct {
	origin      string
	roots       *x509.CertPool
	provisioner jose.JSONWebKey // private
	userCA      ssh.PublicKey
	cmd         *exec.Cmd
	done        chan struct{}
}

// stepServer builds, configures and starts it on first use.
func (b *bench) stepServer() (*stepServer, error) {
	if b.step != nil {
		return b.step, nil
	}
	fmt.Fprintln(b.talk, "building step-ca")
	dir := filepath.Join(b.dir, "step")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c := exec.CommandContext(b.ctx, "go", "install", "-ldflags", "-s -w", stepCAModule)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir, "GOFLAGS=")
	if text, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build step-ca: %w\n%s", err, text)
	}
	s := &stepServer{roots: x509.NewCertPool(), done: make(chan struct{})}
	if err := s.configure(dir); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(filepath.Join(dir, "step-ca"), filepath.Join(dir, "ca.json"))
	s.cmd.Env = append(os.Environ(), "STEPPATH="+dir)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := startTied(s.cmd); err != nil {
		return nil, err
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }() // ends with stop
	b.step = s
	return s, await(b.ctx, upTime, "step-ca", func() error {
		select {
		case <-s.done:
			text, _ := os.ReadFile(log.Name())
			return final{fmt.Errorf("it ended: %s", text)}
		default:
		}
		return s.healthy()
	})
}

func (s *stepServer) healthy() error {
	resp, err := s.web().Get(s.origin + "/health")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/health answers %s (%v)", resp.Status, err)
	}
	return nil
}

// web is a client with connections of its own.
func (s *stepServer) web() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots}}}
}

func (s *stepServer) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		return nil
	case <-time.After(downTime):
		return errors.Join(errors.New("step-ca does not stop"), s.cmd.Process.Kill())
	}
}

// configure writes ca.json and what it names.
func (s *stepServer) configure(dir string) error {
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := s.makeChain(in); err != nil {
		return err
	}
	for _, name := range []string{"host", "user"} { // the last one stays in s.userCA
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err == nil {
			err = writeKey(in(name), private)
		}
		if err == nil {
			s.userCA, err = ssh.NewPublicKey(public)
		}
		if err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	s.provisioner = jose.JSONWebKey{Key: key, KeyID: "bench", Algorithm: string(jose.ES256), Use: "sig"}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	s.origin = "https://" + addr
	config := map[string]any{
		"root": in("root.pem"), "crt": in("crt.pem"), "key": in("key"), "address": addr, "dnsNames": []string{"127.0.0.1"},
		"logger": map[string]any{"format": "text"}, // as `step ca init` has it
		"ssh":    map[string]any{"hostKey": in("host"), "userKey": in("user")},
		"db":     map[string]any{"type": "badgerv2", "dataSource": in("db")},
		"authority": map[string]any{"provisioners": []any{map[string]any{"type": "JWK", "name": "bench", "key": s.provisioner.Public(),
			"claims": map[string]any{"enableSSHCA": true}}}},
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(in("ca.json"), raw, 0o600)
}

// makeChain makes the root and the intermediate that signs step-ca's own TLS certificate.
func (s *stepServer) makeChain(in func(string) string) error {
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range []string{"root", "crt"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(1 + i)), Subject: pkix.Name{CommonName: "bench " + name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().AddDate(0, 0, 1), IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1 - i, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			return err
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return err
		}
		if i == 0 {
			s.roots.AddCert(parent)
		}
		parentKey = key
		if err := os.WriteFile(in(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			return err
		}
	}
	return writeKey(in("key"), parentKey)
}

func writeKey(path string, key any) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
