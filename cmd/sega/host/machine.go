//go:build linux

package host

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/keychain/secret"
)

// machine is the broker as a host needs it: a client with the host's key, whose session is opened anew when
// it has ended.
type machine struct {
	client *client.Client

	opening sync.Mutex // held while a session is opened: each ends the one before

	mu    sync.Mutex
	token secret.Secret
}

// newMachine makes a client with the host's key.
func newMachine(c Config, key dpop.Key, userAgent string) (*machine, error) {
	m := &machine{}
	cfg := client.Config{Origin: c.Broker, Key: key, Token: m.current, UserAgent: userAgent}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
	}
	var err error
	m.client, err = client.New(cfg)
	return m, err
}

func (m *machine) current() secret.Secret {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token
}

// open opens a session in the place of an old one.
func (m *machine) open(ctx context.Context, old secret.Secret) error {
	m.opening.Lock()
	defer m.opening.Unlock()
	if !m.current().Equal(old) {
		return nil // another call was faster
	}
	s, err := m.client.MachineSession(ctx)
	if err != nil {
		return err
	}
	if s.Machine.Kind != api.MachineHost {
		return errors.New("the key is that of a machine which is no host")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = s.Token
	return nil
}

// with makes a call in a session, once more in a new one where the old has ended.
func with[T any](ctx context.Context, m *machine, call func(context.Context) (T, error)) (out T, err error) {
	token := m.current()
	if token.Empty() {
		if err := m.open(ctx, token); err != nil {
			return out, err
		}
		token = m.current()
	}
	out, err = call(ctx)
	if !api.IsKind(err, api.KindUnauthenticated) {
		return out, err
	}
	if err := m.open(ctx, token); err != nil {
		return out, err
	}
	return call(ctx)
}

// machineKey reads the host's own key; it never leaves this host. fs.ErrNotExist where there is none.
func machineKey(path string) (dpop.Key, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return dpop.Key{}, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return dpop.Key{}, fmt.Errorf("%s can be read by others\nrun: chmod 600 %s", path, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return dpop.Key{}, err
	}
	defer clear(data)
	return dpop.ParseKey(secret.New(data))
}

// ensureKey reads the host's key, or makes it.
func ensureKey(path string) (dpop.Key, error) {
	key, err := machineKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = dpop.GenerateKey(); err != nil {
		return key, err
	}
	return key, writeFile(path, key.Marshal().Reveal(), 0o600)
}
