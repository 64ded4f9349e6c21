package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// shownProof is a proof that somebody has the private half of a key, and what makes it good once. The
// zero value is no proof.
type shownProof struct {
	proof  sshca.Proof
	digest string // of what was signed
	until  time.Time
}

// keyProof checks a proof of a key for a purpose of the caller's. It takes nothing yet: see spend.
func (s *Server) keyProof(c *call, p api.KeyProof, purpose string, key ssh.PublicKey) (shownProof, *api.Problem) {
	if !s.nonces.Valid(p.Nonce) {
		return shownProof{}, api.Errorf(api.KindDenied, "the signature of the key is too old").WithHint("repeat the command, and sign within two minutes")
	}
	text := api.ProofText(purpose, s.Origin, c.session.ID, ssh.FingerprintSHA256(key), p.Nonce)
	shown, err := sshca.CheckProof(p.Signature, api.ProofNamespace, text)
	if err == nil && !bytes.Equal(shown.Key.Marshal(), key.Marshal()) {
		err = errors.New("another key has signed")
	}
	if err != nil {
		return shownProof{}, api.Errorf(api.KindDenied, "the key has not proven that it is yours: %v", err)
	}
	sum := sha256.Sum256(text)
	return shownProof{proof: shown, digest: "key proof " + hex.EncodeToString(sum[:]), until: s.Now().Add(2 * s.nonces.Lifetime())}, nil
}

// spend takes a proof once, in the transaction of what it is for.
func (p shownProof) spend(ctx context.Context, tx store.Tx, e audit.Event) error {
	if p.digest == "" {
		return nil
	}
	err := state.UseIDToken(ctx, tx, p.digest, p.until, e.Time)
	if errors.Is(err, state.ErrExists) {
		return api.Errorf(api.KindDenied, "this signature of the key was used before").WithHint("repeat the command")
	}
	return err
}

// verification checks that a key which is to be certified has verified its user, where the request says so.
func (s *Server) verification(c *call, r api.CertificateRequest, key ssh.PublicKey) (shownProof, *api.Problem) {
	if r.Proof == nil {
		return shownProof{}, nil
	}
	shown, problem := s.keyProof(c, *r.Proof, api.ProofVerify, key)
	if problem == nil && !shown.proof.Verified {
		problem = api.Errorf(api.KindDenied, "the key has not verified its user").WithHint("it must be a FIDO2 key made by ssh-keygen -t ed25519-sk -O verify-required")
	}
	return shown, problem
}

// after makes an effect whose records are kept behind those of first, or not at all.
func (e effect) after(first func(context.Context, store.Tx, audit.Event) error) effect {
	apply := e.apply
	e.apply = func(ctx context.Context, tx store.Tx, event audit.Event) error {
		if err := first(ctx, tx, event); err != nil {
			return err
		}
		return apply(ctx, tx, event)
	}
	return e
}
