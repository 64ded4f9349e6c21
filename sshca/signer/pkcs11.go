//go:build pkcs11

package signer

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
	"go.step.sm/crypto/kms/uri"
	"golang.org/x/crypto/ssh"

	"sega/keychain/secret"
)

// HasPKCS11 says whether this build opens keys of PKCS#11.
const HasPKCS11 = true

// openPKCS11 opens a key of an HSM. The PIN comes from its file whenever the module is opened.
func openPKCS11(u *uri.URI, c Config) (opener, error) {
	if u.Get("object") == "" && u.Get("id") == "" {
		return nil, fmt.Errorf("%w: it has neither object nor id", ErrPlace)
	}
	return func(ctx context.Context) (key, error) {
		kms, err := module(ctx, u, c)
		if err != nil {
			return key{}, err
		}
		crypto, err := kms.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: u.String()})
		if err != nil {
			_ = kms.Close()
			return key{}, err
		}
		s, err := ssh.NewSignerFromSigner(crypto)
		if err != nil {
			_ = kms.Close()
			return key{}, err
		}
		return key{Signer: s, close: sync.OnceValue(kms.Close)}, nil
	}, nil
}

// module opens the module and logs in to the token.
func module(ctx context.Context, u *uri.URI, c Config) (*pkcs11.PKCS11, error) {
	pin, err := readPIN(u, c)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	// The library would read the PIN's file itself, whoever can read it.
	values := uri.Values(u)
	values.Del("pin-source")
	values.Del("pin-value")
	return pkcs11.New(ctx, apiv1.Options{URI: uri.New(schemePKCS11, values).String(), Pin: string(pin.Reveal())})
}

func readPIN(u *uri.URI, c Config) (secret.Secret, error) {
	path := u.Get("pin-source")
	if path == "" {
		return secret.Secret{}, nil // of tokens without a login
	}
	return c.Secret(c.path(path))
}

// Create makes an ECDSA key on the curve P-256 in the token of a place that names object and id, and returns its public half. A
// key that exists is left as it is.
func Create(ctx context.Context, place string, c Config) (ssh.PublicKey, error) {
	scheme, u, err := parse(place)
	if err != nil {
		return nil, err
	}
	if scheme != schemePKCS11 {
		return nil, fmt.Errorf("%w: keys are made in files and in tokens of PKCS#11 alone", ErrPlace)
	}
	kms, err := module(ctx, u, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = kms.Close() }()
	name := uri.New(schemePKCS11, url.Values{"id": {u.Get("id")}, "object": {u.Get("object")}}).String()
	created, err := kms.CreateKey(&apiv1.CreateKeyRequest{Name: name, SignatureAlgorithm: apiv1.ECDSAWithSHA256})
	if err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(created.PublicKey)
}
