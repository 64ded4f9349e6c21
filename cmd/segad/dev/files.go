//go:build linux

package dev

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/keychain/atomicfile"
	"sega/sshca/softkey"
)

// policies are the rules of the dev environment, copied once into the data folder to be changed there.
//
//go:embed policy/*.cedar
var policies embed.FS

// Names that the dev environment gives.
const (
	hostName    = "dev-host"
	bastionName = "dev-bastion"
	indexerName = "dev-indexer"
	region      = "us-east-1"
	brokerARN   = "arn:aws:sts::111111111111:assumed-role/sega-broker/dev"
)

var awsRoles = []config.Role{
	{Name: "dev-admin", ARN: "arn:aws:iam::111111111111:role/dev-admin", Description: "everything in the development account", MaxDuration: 4 * time.Hour},
	{Name: "dev-long", ARN: "arn:aws:iam::111111111111:role/dev-long", Description: "the development account, for long runs", MaxDuration: 12 * time.Hour, Mode: api.ModeWebIdentity},
	{Name: "dev-audit", ARN: "arn:aws:iam::111111111111:role/dev-audit", Description: "audit of the development account, by way of dev-admin: --chain dev-audit", MaxDuration: time.Hour},
	{Name: "prod-readonly", ARN: "arn:aws:iam::222222222222:role/prod-readonly", Description: "read production, for those on call", MaxDuration: time.Hour},
}

// trusted says which principals a role's trust policy names, where it is not the broker.
var trusted = map[string][]string{"dev-audit": {"arn:aws:iam::111111111111:role/dev-admin", "arn:aws:iam::111111111111:role/dev-long"}}

// makeKeys makes what does not exist yet: TLS, log key, CAs, join token, policies.
func (e *environment) makeKeys() error {
	for _, dir := range []string{"ca", "policy", "recordings", "bastion", "indexer", "host", "log", "aws", "run"} {
		if err := os.MkdirAll(e.file(dir), 0o700); err != nil {
			return err
		}
	}
	steps := []struct {
		file string
		make func(path string) error
	}{
		{"tls.key", e.makeTLS}, {"log.key", e.makeLogKey}, {"ca.passphrase", func(p string) error { return atomicfile.Replace(p, []byte(randomText(24)+"\n"), 0o600) }},
		{"issuer.key", e.makeIssuerKey}, {"bastion.join", makeJoinToken}, {"indexer.join", makeJoinToken},
		{"policy/access.cedar", e.makePolicies},
	}
	for _, s := range steps {
		path := e.file(s.file)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := s.make(path); err != nil {
			return fmt.Errorf("make %s: %w", s.file, err)
		}
	}
	return e.openCAs()
}

// makeIssuerKey comes after the passphrase.
func (e *environment) makeIssuerKey(path string) error {
	pass, err := config.Secret(e.file("ca.passphrase"))
	if err != nil {
		return err
	}
	_, err = softkey.Create(path, pass, softkey.ECDSAP256)
	return err
}

func makeJoinToken(path string) error {
	return atomicfile.Replace(path, []byte("sega_join_"+randomText(32)+"\n"), 0o600)
}

func (e *environment) makeLogKey(path string) error {
	key, err := audit.GenerateLogKey("dev.sega.invalid/audit")
	if err != nil {
		return err
	}
	e.saved.LogVerifierKey = key.VerifierKey()
	return errors.Join(atomicfile.Replace(path, key.Reveal(), 0o600), e.save())
}

func (e *environment) makePolicies(string) error {
	entries, err := policies.ReadDir("policy")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		data, err := policies.ReadFile("policy/" + entry.Name())
		if err != nil {
			return err
		}
		if err := atomicfile.Replace(e.file("policy", entry.Name()), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// makeTLS makes a CA of this folder alone and the broker's certificate under it.
func (e *environment) makeTLS(keyPath string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sega dev CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLenZero: true}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "sega dev broker"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		atomicfile.Replace(e.file("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600),
		atomicfile.Replace(e.file("tls.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		atomicfile.Replace(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

// writeConfigs writes the servers' configuration files for the ports of this run.
func (e *environment) writeConfigs() error {
	broker := config.Broker{Origin: e.origin(), Listen: e.address("broker"), Node: "dev-broker", TLS: config.TLS{Certificate: "tls.pem", Key: "tls.key"},
		Database: e.database(), DatabasePasswordFile: e.password(), LogKey: "log.key", Policy: "policy", Recordings: "recordings", Roles: awsRoles,
		IDP: config.IDP{Issuer: e.provider.Issuer(), ClientID: clientID, Scopes: []string{"openid", "profile", "email", "groups", "offline_access"},
			RedirectPorts: e.saved.RedirectPorts, RedirectPath: redirectPath, DeviceGrant: true},
		Issuer:   &config.Issuer{Keys: []string{"issuer.key"}},
		AWS:      config.AWS{Region: region, Endpoint: e.sts.URL(), Credentials: "aws/credentials", FederationEndpoint: e.console.URL()},
		CA:       e.cas,
		Hosts:    []config.Host{{Name: hostName, Address: e.address("host"), Logins: []string{e.login}, Labels: map[string]string{"env": "dev"}}},
		Bastions: []config.Bastion{{Name: bastionName, Address: e.address("bastion"), Egress: []string{"127.0.0.1/32"}, JoinToken: "bastion.join"}},
		Indexers: []config.Indexer{{Name: indexerName, JoinToken: "indexer.join"}}}
	bastion := config.BastionServer{Name: bastionName, Listen: e.address("bastion"), Broker: e.origin(), CAFile: "ca.pem", LogKey: e.saved.LogVerifierKey,
		Data: "bastion", JoinToken: "bastion.join", Recordings: "recordings", KeepAlive: e.KeepAlive, Drain: new(time.Duration),
		Recipients: []config.Recipient{{Name: "reviewers", Age: e.saved.ReviewerAge}, {Name: "offline-recovery", Age: e.saved.RecoveryAge}}}
	indexer := config.IndexerServer{Name: indexerName, Broker: e.origin(), CAFile: "ca.pem", LogKey: e.saved.LogVerifierKey,
		Data: "indexer", JoinToken: "indexer.join", Identity: "reviewer.age"}
	credentials := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", e.saved.AWSKeyID, e.saved.AWSSecret)
	return errors.Join(writeYAML(e.file("broker.yaml"), broker), writeYAML(e.file("bastion.yaml"), bastion), writeYAML(e.file("indexer.yaml"), indexer),
		atomicfile.Replace(e.file("aws", "credentials"), []byte(credentials), 0o600))
}

// database is what stands in the broker's file: a path from where this was started is made absolute.
func (e *environment) database() string {
	path, isPath := strings.CutPrefix(e.Database, "sqlite:")
	switch {
	case e.Database == "":
		return e.file("sega.db")
	case strings.Contains(e.Database, "://") && !isPath:
		return e.Database
	}
	return absolute(path)
}

func (e *environment) password() string {
	if e.DatabasePassword == "" {
		return ""
	}
	return absolute(e.DatabasePassword)
}

func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// written stands at the beginning of each file of a server.
const written = "# segad dev up writes this anew at each start; the keys of the CAs stay as they are here.\n"

func writeYAML(path string, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, append([]byte(written), data...), 0o600)
}

func (e *environment) file(elem ...string) string {
	return filepath.Join(append([]string{e.data}, elem...)...)
}
