package dpop

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"sega/keychain/secret"
)

// maxProof bounds a proof in bytes; ours are about 600.
const maxProof = 4 << 10

// strict is base64url without padding, line breaks or stray bits in the last character: one
// value, one text.
var strict = base64.RawURLEncoding.Strict()

type header struct {
	Typ string `json:"typ"`
	Alg string `json:"alg"`
	JWK jwk    `json:"jwk"`
}

type claims struct {
	JTI   string `json:"jti"`
	HTM   string `json:"htm"`
	HTU   string `json:"htu"`
	IAT   int64  `json:"iat"` // seconds
	ATH   string `json:"ath,omitempty"`
	Nonce string `json:"nonce,omitempty"`
}

// ATH is the hash of a token that its proof carries (RFC 9449 §4.2), base64url; "" for no token.
func ATH(token secret.Secret) string {
	if token.Empty() {
		return ""
	}
	sum := sha256.Sum256(token.Reveal())
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Proof returns a new proof, with a jti of its own, for one request. htu is the request's URL;
// token is empty where there is no session yet; nonce is the last one that the server gave, or "".
func (k Key) Proof(method, htu string, token secret.Secret, nonce string) (string, error) {
	if k.Empty() {
		return "", errNoKey
	}
	target, err := normalise(htu)
	if err != nil {
		return "", fmt.Errorf("dpop: make proof: %w", err)
	}
	jti := make([]byte, 16)
	rand.Read(jti)
	c := claims{JTI: base64.RawURLEncoding.EncodeToString(jti), HTM: method, HTU: target,
		IAT: time.Now().Unix(), ATH: ATH(token), Nonce: nonce}
	return k.sign(header{Typ: "dpop+jwt", Alg: "ES256", JWK: publicJWK(&k.private().PublicKey)}, c)
}

// sign returns the compact JWS (RFC 7515 §7.1) of header and claims; the signature is r ‖ s (RFC 7518 §3.4).
func (k Key) sign(header, claims any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("dpop: make proof: %w", err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("dpop: make proof: %w", err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.private(), digest[:])
	if err != nil {
		return "", fmt.Errorf("dpop: sign proof: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(rawSignature(r, s)), nil
}

func rawSignature(r, s *big.Int) []byte {
	sig := make([]byte, 2*coordinate)
	r.FillBytes(sig[:coordinate])
	s.FillBytes(sig[coordinate:])
	return sig
}

func verify(pub *ecdsa.PublicKey, input string, sig []byte) bool {
	if len(sig) != 2*coordinate {
		return false
	}
	digest := sha256.Sum256([]byte(input))
	r := new(big.Int).SetBytes(sig[:coordinate])
	s := new(big.Int).SetBytes(sig[coordinate:])
	return ecdsa.Verify(pub, digest[:], r, s)
}
