//go:build !pkcs11

package signer

import (
	"context"
	"errors"

	"go.step.sm/crypto/kms/uri"
	"golang.org/x/crypto/ssh"
)

// HasPKCS11 says whether this build opens keys of PKCS#11.
const HasPKCS11 = false

// ErrNoPKCS11 is what a build without PKCS#11 answers.
var ErrNoPKCS11 = errors.New("this segad was built without PKCS#11, which needs cgo\nbuild it by: make segad-pkcs11")

func openPKCS11(*uri.URI, Config) (opener, error) { return nil, ErrNoPKCS11 }

// Create makes a key in a token of PKCS#11, in a build that has it.
func Create(_ context.Context, place string, _ Config) (ssh.PublicKey, error) {
	if scheme, _, err := parse(place); err != nil {
		return nil, err
	} else if scheme == schemePKCS11 {
		return nil, ErrNoPKCS11
	}
	return nil, errors.Join(ErrPlace, errors.New("keys are made in files and in tokens of PKCS#11 alone"))
}
