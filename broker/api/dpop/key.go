package dpop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"sega/keychain/secret"
)

// keyPrefix marks a marshalled key, so that scanners find it where it must not be.
const keyPrefix = "sega_dpop_"

// coordinate is the length in bytes of a P-256 coordinate, scalar, r and s.
const coordinate = 32

var errNoKey = errors.New("dpop: the key is empty: it was neither generated nor parsed")

// Key is a P-256 private key that prints and marshals as its thumbprint alone. The zero value
// holds no key, and every proof with it fails.
type Key struct {
	// private is a function because fmt shows a function's address at most, whatever the verb
	// and however deep the Key sits in somebody's struct.
	private func() *ecdsa.PrivateKey
}

// GenerateKey makes a new key.
func GenerateKey() (Key, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("dpop: generate key: %w", err)
	}
	return newKey(k), nil
}

func newKey(k *ecdsa.PrivateKey) Key {
	return Key{private: func() *ecdsa.PrivateKey { return k }}
}

// ParseKey takes what Marshal gave.
func ParseKey(s secret.Secret) (Key, error) {
	text, ok := strings.CutPrefix(string(s.Reveal()), keyPrefix)
	if !ok {
		return Key{}, errors.New("dpop: parse key: not a DPoP key of sega")
	}
	raw, err := strict.DecodeString(text)
	if err != nil {
		return Key{}, errors.New("dpop: parse key: not base64url")
	}
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return Key{}, errors.New("dpop: parse key: not a P-256 scalar")
	}
	return newKey(k), nil
}

// Marshal returns the private key for the laptop's secret store: "sega_dpop_" and the scalar in
// base64url. It is empty for the zero Key.
func (k Key) Marshal() secret.Secret {
	if k.Empty() {
		return secret.Secret{}
	}
	raw, err := k.private().Bytes()
	if err != nil { // only for curves that GenerateKey and ParseKey do not let in
		return secret.Secret{}
	}
	defer clear(raw)
	return secret.FromString(keyPrefix + base64.RawURLEncoding.EncodeToString(raw))
}

// Empty reports whether there is no key.
func (k Key) Empty() bool { return k.private == nil }

// Thumbprint returns the SHA-256 thumbprint of the public key (RFC 7638), base64url, 43
// characters; "" for the zero Key.
func (k Key) Thumbprint() string {
	if k.Empty() {
		return ""
	}
	return publicJWK(&k.private().PublicKey).thumbprint()
}

// Format implements fmt.Formatter for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// String names the key by its thumbprint.
func (k Key) String() string { return "dpop key " + k.Thumbprint() }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements encoding.TextMarshaler and gives the thumbprint.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// jwk is a public P-256 key as JSON. The order of its fields is the one that RFC 7638 hashes.
type jwk struct {
	Crv string `json:"crv"`
	Kty string `json:"kty"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

func publicJWK(pub *ecdsa.PublicKey) jwk {
	point, err := pub.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		return jwk{}
	}
	x, y := point[1:1+coordinate], point[1+coordinate:]
	return jwk{Crv: "P-256", Kty: "EC", X: base64.RawURLEncoding.EncodeToString(x), Y: base64.RawURLEncoding.EncodeToString(y)}
}

func (j jwk) thumbprint() string {
	sum := sha256.Sum256([]byte(`{"crv":"` + j.Crv + `","kty":"` + j.Kty + `","x":"` + j.X + `","y":"` + j.Y + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// public returns the key, whose point must lie on the curve.
func (j jwk) public() (*ecdsa.PublicKey, error) {
	if j.Kty != "EC" || j.Crv != "P-256" {
		return nil, errors.New("the key is not EC on P-256")
	}
	x, errX := strict.DecodeString(j.X)
	y, errY := strict.DecodeString(j.Y)
	if errX != nil || errY != nil || len(x) != coordinate || len(y) != coordinate {
		return nil, errors.New("a coordinate is not 32 bytes in base64url")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	return pub, nil
}
