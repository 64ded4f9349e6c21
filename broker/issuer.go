package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"sega/broker/api"
	"sega/keychain/secret"
)

// IssuerMaxAge is how long a cache may keep the issuer's documents, and so how long a key must have been
// published before it signs, at the least.
const IssuerMaxAge = 5 * time.Minute

// maxIssuer is IAM's limit of a provider's URL.
const maxIssuer = 255

// Issuer is the broker as an OIDC issuer that IAM trusts: it signs the tokens with which the broker calls
// AssumeRoleWithWebIdentity, and knows the two documents from which AWS learns its keys. It answers
// no login, and no part of sega takes its tokens. It is safe for use by many goroutines.
type Issuer struct {
	url    string
	signer jose.Signer
	ids    []string // of the keys; that of the first signs
	docs   []IssuerDocument
}

// IssuerDocument is what the broker serves, or any web server in its place, below the issuer's URL.
type IssuerDocument struct {
	Path string // api.RouteDiscovery or api.RouteKeySet
	Body []byte // JSON
}

// NewIssuer makes the issuer of a URL: https, without port (but on loopback, for trying), as IAM takes it.
// The first key signs, by ES256; the others are published, because they will sign or have signed.
func NewIssuer(issuer string, keys []crypto.Signer) (*Issuer, error) {
	if err := checkIssuerURL(issuer); err != nil {
		return nil, err
	}
	i := &Issuer{url: issuer}
	set, err := i.publish(keys)
	if err != nil {
		return nil, err
	}
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", i.ids[0])
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: cryptosigner.Opaque(keys[0])}, opts); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return i, i.write(set)
}

// IssuerKeyID returns the ID of an issuer's public key: its thumbprint (RFC 7638).
func IssuerKeyID(key crypto.PublicKey) (string, error) {
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return "", errors.New("is not one of ECDSA P-256\nrun: segad issuer init")
	}
	thumbprint, err := (&jose.JSONWebKey{Key: pub}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(thumbprint), err
}

// publish returns the public halves of the keys.
func (i *Issuer) publish(keys []crypto.Signer) (set jose.JSONWebKeySet, err error) {
	seen := map[string]bool{}
	for n, key := range keys {
		id, err := IssuerKeyID(key.Public())
		if err != nil {
			return set, fmt.Errorf("issuer: key %d %w", n+1, err)
		}
		if seen[id] {
			return set, fmt.Errorf("issuer: key %d is named twice", n+1)
		}
		seen[id] = true
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: string(jose.ES256), Use: "sig"})
		i.ids = append(i.ids, id)
	}
	if len(set.Keys) == 0 {
		return set, errors.New("issuer: no key\nrun: segad issuer init")
	}
	return set, nil
}

// discovery is the metadata that IAM asks of a provider (OpenID Connect Discovery 1.0 §3).
type discovery struct {
	Issuer     string   `json:"issuer"`
	KeySet     string   `json:"jwks_uri"`
	Responses  []string `json:"response_types_supported"`
	Subjects   []string `json:"subject_types_supported"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
	Claims     []string `json:"claims_supported"`
}

func (i *Issuer) write(set jose.JSONWebKeySet) error {
	about := discovery{Issuer: i.url, KeySet: i.url + api.RouteKeySet, Responses: []string{"id_token"}, Subjects: []string{"public"},
		Algorithms: []string{string(jose.ES256)}, Claims: []string{"iss", "sub", "aud", "iat", "nbf", "exp", "jti"}}
	for _, doc := range []struct {
		path string
		body any
	}{{api.RouteDiscovery, about}, {api.RouteKeySet, set}} {
		body, err := json.MarshalIndent(doc.body, "", "  ")
		if err != nil {
			return fmt.Errorf("issuer: %w", err)
		}
		i.docs = append(i.docs, IssuerDocument{Path: doc.path, Body: append(body, '\n')})
	}
	return nil
}

// checkIssuerURL takes what IAM takes as a provider's URL, in the one form in which it is compared.
func checkIssuerURL(issuer string) error {
	bad := fmt.Errorf("issuer: %q is not of the form https://HOST[/PATH], in lower case and without a slash at its end", printable(issuer, maxIssuer))
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(issuer, "?#"):
		return bad
	case len(issuer) > maxIssuer || u.String() != issuer || strings.HasSuffix(issuer, "/") || strings.HasSuffix(u.Host, ":") || u.Host != strings.ToLower(u.Host) || u.Path != "" && !clean(u.EscapedPath()):
		return bad
	case u.Port() != "" && !onLoopback(u.Hostname()):
		return fmt.Errorf("issuer: %q has a port, and IAM takes no provider with one\npublish its documents on port 443 of some host (segad issuer publish), and make that the section issuer's url", issuer)
	}
	return nil
}

func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// URL returns the tokens' iss.
func (i *Issuer) URL() string { return i.url }

// KeyIDs returns the IDs of the published keys; the first signs.
func (i *Issuer) KeyIDs() []string { return append([]string(nil), i.ids...) }

// Documents returns what must be found below the URL.
func (i *Issuer) Documents() []IssuerDocument { return append([]IssuerDocument(nil), i.docs...) }

// Sign implements awssts.TokenSigner: a JWT in compact form.
func (i *Issuer) Sign(claims any) (secret.Secret, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("issuer: %w", err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("issuer: %w", err)
	}
	token, err := signed.CompactSerialize()
	return secret.FromString(token), err
}
