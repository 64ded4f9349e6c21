package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/bastion"
	"sega/broker/client"
	"sega/cmd/segad/config"
	"sega/keychain/atomicfile"
	"sega/keychain/secret"
)

// Files in a machine's data folder.
const (
	machineKeyName = "machine.key"
	checkpointName = "checkpoint"
)

type controlConfig struct {
	origin, caFile, logKey, name, kind, data, joinToken string
	log                                                 *slog.Logger
}

// control is the broker as a machine needs it: broker/client with a machine's session, which is
// opened anew when it has ended.
type control struct {
	controlConfig
	client  *client.Client
	witness *audit.Witness

	opening sync.Mutex // held while a session is opened

	mu    sync.Mutex
	token secret.Secret
}

func openControl(c controlConfig) (*control, error) {
	key, err := machineKey(filepath.Join(c.data, machineKeyName))
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, err
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.caFile)
		}
	}
	out := &control{controlConfig: c}
	base := client.Config{Origin: c.origin, RootCAs: roots, Key: key, Token: out.current, UserAgent: "segad/" + version}
	base.Mark = func() []byte {
		mark, _ := out.witness.Latest()
		return mark
	}
	// Checkpoints come with the feed's heartbeats, and the bastion holds them against the witness
	// beside it: nothing that a revocation waits for waits for a proof.
	if out.client, err = client.New(base); err != nil {
		return nil, err
	}
	out.witness, err = openWitness(c, out.client)
	return out, err
}

// openWitness remembers the log's checkpoints, so that a log that was rewritten or went back is noticed.
func openWitness(c controlConfig, prover *client.Client) (*audit.Witness, error) {
	verifier, err := note.NewVerifier(c.logKey)
	if err != nil {
		return nil, fmt.Errorf("log_key: %w", err)
	}
	path := filepath.Join(c.data, checkpointName)
	latest, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return audit.NewWitness(audit.WitnessConfig{Verifier: verifier, Latest: latest,
		Prove: prove(prover),
		Remember: func(msg []byte) error {
			if err := atomicfile.Replace(path, msg, 0o600); err != nil {
				// It is still held against what comes. Were this an error, a full disk would keep the
				// reports from the broker whose delivery frees the disk.
				c.log.Error("checkpoint not saved", "error", err)
			}
			return nil
		}})
}

// prove asks the broker for a proof. That it does not know a size is its own word, and evidence.
func prove(c *client.Client) func(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
	return func(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
		proof, err := c.Proof(ctx, from, to)
		if api.IsKind(err, api.KindInvalid) {
			err = fmt.Errorf("%w: %w", audit.ErrNoSuchSize, err)
		}
		return proof, err
	}
}

// machineKey reads the machine's own key, or makes it: it never leaves this machine.
func machineKey(path string) (dpop.Key, error) {
	if _, err := os.Stat(path); err == nil {
		raw, err := config.Secret(path)
		if err != nil {
			return dpop.Key{}, err
		}
		return dpop.ParseKey(raw)
	} else if !errors.Is(err, os.ErrNotExist) {
		return dpop.Key{}, err
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		return key, err
	}
	return key, atomicfile.Replace(path, key.Marshal().Reveal(), 0o600)
}

func (c *control) current() secret.Secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// session opens a machine session, after enrolling where the broker does not know the key yet.
func (c *control) session(ctx context.Context, old secret.Secret) error {
	c.opening.Lock()
	defer c.opening.Unlock()
	if !c.current().Equal(old) {
		return nil // another call was faster
	}
	s, err := c.client.MachineSession(ctx)
	if api.IsKind(err, api.KindUnauthenticated) && c.joinToken != "" {
		if enrollErr := c.enroll(ctx); enrollErr != nil {
			return enrollErr
		}
		s, err = c.client.MachineSession(ctx)
	}
	if err != nil {
		return err
	}
	c.log.Info("session at the broker", "session", s.SessionID, "machine", s.Machine.Name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = s.Token
	return nil
}

func (c *control) enroll(ctx context.Context) error {
	token, err := config.Secret(c.joinToken)
	if err != nil {
		return fmt.Errorf("this %s is not enrolled: %w", c.kind, err)
	}
	machine, err := c.client.Enroll(ctx, api.EnrollRequest{Token: token, Name: c.name, Kind: c.kind})
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	c.log.Info("enrolled", "machine", machine.ID, "name", machine.Name)
	return nil
}

// withNext are the attributes of an error in a log: itself, and what to do next where the broker says so.
func withNext(err error) []any {
	attrs := []any{"error", err}
	if p := (*api.Problem)(nil); errors.As(err, &p) && p.Hint != "" {
		attrs = append(attrs, "next", p.Hint)
	}
	return attrs
}

// with runs a call in a session, once more in a new one where the old has ended.
func (c *control) with(ctx context.Context, call func() error) error {
	token := c.current()
	if token.Empty() {
		if err := c.session(ctx, token); err != nil {
			return c.noSession(err)
		}
		token = c.current()
	}
	err := call()
	// A log that went back may not know our session either, and says so under a checkpoint that is
	// refused. A new session is asked for with our mark, from which the broker learns of it (R10).
	wentBack := errors.Is(err, audit.ErrRollback) || errors.Is(err, audit.ErrFork)
	if !api.IsKind(err, api.KindUnauthenticated) && !wentBack {
		return err
	}
	if err := c.session(ctx, token); err != nil {
		return c.noSession(err)
	}
	return call()
}

// noSession keeps what the broker says of our session apart from what it says of a call.
func (c *control) noSession(err error) error {
	c.log.Warn(bastion.ErrNoSession.Error(), withNext(err)...)
	return fmt.Errorf("%w: %w", bastion.ErrNoSession, err)
}

// Hop implements bastion.Control.
func (c *control) Hop(ctx context.Context, r api.HopRequest) (hop api.Hop, err error) {
	err = c.with(ctx, func() error { hop, err = c.client.Hop(ctx, r); return err })
	return hop, err
}

// Report implements bastion.Control.
func (c *control) Report(ctx context.Context, r []api.Report) error {
	return c.with(ctx, func() error { return c.client.Report(ctx, r) })
}

// Channel implements bastion.Control.
func (c *control) Channel(ctx context.Context, r api.ChannelRequest) (grant api.ChannelGrant, err error) {
	err = c.with(ctx, func() error { grant, err = c.client.Channel(ctx, r); return err })
	return grant, err
}

// Front implements bastion.Control.
func (c *control) Front(ctx context.Context, r api.FrontRequest) (cert api.Certificate, err error) {
	err = c.with(ctx, func() error { cert, err = c.client.Front(ctx, r); return err })
	return cert, err
}

// Ack implements bastion.Control.
func (c *control) Ack(ctx context.Context, a api.Ack) error {
	return c.with(ctx, func() error { return c.client.Ack(ctx, a) })
}

// Feed implements bastion.Control.
func (c *control) Feed(ctx context.Context, after int64, checkpoint []byte, handle func(api.FeedItem) error) error {
	return c.with(ctx, func() error { return c.client.Feed(ctx, after, checkpoint, handle) })
}
