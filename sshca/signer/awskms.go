package signer

import (
	"context"
	"fmt"
	"strings"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/awskms"
	"go.step.sm/crypto/kms/uri"
	"golang.org/x/crypto/ssh"
)

// openAWS opens a key of AWS KMS. awskms gives each call 15 s; the signer waits less.
func openAWS(place string, u *uri.URI) (opener, error) {
	id := u.Get("key-id")
	if id == "" {
		return nil, fmt.Errorf("%w: it has no key-id", ErrPlace)
	}
	if id != strings.ToLower(id) {
		return nil, fmt.Errorf("%w: key-id is the ID or the ARN of a key, or an alias in lower case", ErrPlace) // the library lowers it
	}
	return func(ctx context.Context) (key, error) {
		kms, err := awskms.New(ctx, apiv1.Options{URI: place})
		if err != nil {
			return key{}, err
		}
		crypto, err := kms.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: place})
		if err != nil {
			return key{}, err
		}
		s, err := ssh.NewSignerFromSigner(crypto)
		return key{Signer: s}, err
	}, nil
}
