package sts

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
)

// token is a JWT in compact form (RFC 7515 §3.1), read but not believed.
type token struct {
	alg, kid  string
	claims    claims
	input     string // what the signature is over
	signature []byte
}

// claims are those that STS reads of a token.
type claims struct {
	Issuer         string   `json:"iss"`
	Subject        string   `json:"sub"`
	Audience       audience `json:"aud"`
	IssuedAt       *int64   `json:"iat"`
	NotBefore      *int64   `json:"nbf"`
	Expires        *int64   `json:"exp"`
	SourceIdentity string   `json:"https://aws.amazon.com/source_identity"`
	Tags           *struct {
		Principal  map[string][]string `json:"principal_tags"`
		Transitive []string            `json:"transitive_tag_keys"`
	} `json:"https://aws.amazon.com/tags"`
}

// audience is one string, or a list of one: with several, AWS wants azp as well, which nobody here sends.
type audience string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var list []string
	if bytes.HasPrefix(data, []byte("[")) {
		if err := json.Unmarshal(data, &list); err != nil || len(list) != 1 {
			return errors.New("aud is not one string")
		}
		*a = audience(list[0])
		return nil
	}
	return json.Unmarshal(data, (*string)(a))
}

var errToken = errors.New("sts: not a JWT of AWS's algorithms")

// parseToken reads a JWT strictly. It is written out here, without a library, so that a mistake of the
// broker's is not made twice.
func parseToken(raw string) (t token, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || strings.ContainsAny(raw, "\r\n") { // which base64 would overlook
		return t, errToken
	}
	var header struct {
		Alg  string   `json:"alg"`
		Kid  string   `json:"kid"`
		Typ  string   `json:"typ"`
		Crit []string `json:"crit"`
	}
	if err := decodePart(parts[0], &header); err != nil {
		return t, err
	}
	if (header.Alg != "ES256" && header.Alg != "RS256") || header.Kid == "" || (header.Typ != "" && header.Typ != "JWT") || header.Crit != nil {
		return t, errToken
	}
	if err := decodePart(parts[1], &t.claims); err != nil {
		return t, err
	}
	t.alg, t.kid, t.input = header.Alg, header.Kid, parts[0]+"."+parts[1]
	t.signature, err = base64.RawURLEncoding.Strict().DecodeString(parts[2])
	return t, err
}

func decodePart(part string, v any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return errToken
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return errToken
	}
	return nil
}

// jwk is a public key (RFC 7517), of the two kinds that the algorithms need.
type jwk struct {
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	Alg string `json:"alg"`
	Use string `json:"use"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
	N   string `json:"n"`
	E   string `json:"e"`
	D   string `json:"d"` // of a private key, which nobody publishes
}

// verifies reports whether the token is signed by the key.
func (k jwk) verifies(t token) bool {
	if k.Kid != t.kid || k.Alg != t.alg || k.Use != "sig" || k.D != "" {
		return false
	}
	sum := sha256.Sum256([]byte(t.input))
	switch {
	case t.alg == "ES256" && k.Kty == "EC" && k.Crv == "P-256" && len(t.signature) == 64:
		x, y := number(k.X), number(k.Y)
		if len(x) != 32 || len(y) != 32 {
			return false
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		return err == nil && ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:]))
	case t.alg == "RS256" && k.Kty == "RSA":
		n, e := new(big.Int).SetBytes(number(k.N)), new(big.Int).SetBytes(number(k.E))
		if n.BitLen() < 2048 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return false
		}
		return rsa.VerifyPKCS1v15(&rsa.PublicKey{N: n, E: int(e.Int64())}, crypto.SHA256, sum[:], t.signature) == nil
	}
	return false
}

func number(s string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
