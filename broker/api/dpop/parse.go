package dpop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrProof is what every refusal of Parse wraps: the header is no valid proof, whoever sent it.
var ErrProof = errors.New("invalid DPoP proof")

// maxJTI bounds a jti in bytes.
const maxJTI = 128

// Proof is a proof whose signature is good. That it fits a request is for Check to say.
type Proof struct {
	Thumbprint string // of the key that signed
	JTI        string
	Method     string
	HTU        string
	Nonce      string // "" if it carries none
	ATH        string // "" if it carries none
	IssuedAt   time.Time
}

// Parse reads the one DPoP header of a request and verifies it with the key that it embeds. A
// request with several such headers must be refused by the caller. Errors wrap ErrProof and quote
// nothing of the input.
func Parse(header string) (Proof, error) {
	p, err := parse(header)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}

func parse(text string) (Proof, error) {
	if len(text) > maxProof {
		return Proof{}, errors.New("longer than 4 KiB")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Proof{}, errors.New("not three parts")
	}
	var raw [3][]byte
	for i, part := range parts {
		b, err := strict.DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") { // Go's decoder skips line breaks
			return Proof{}, errors.New("not base64url")
		}
		raw[i] = b
	}
	key, err := parseHeader(raw[0])
	if err != nil {
		return Proof{}, err
	}
	pub, err := key.public()
	if err != nil {
		return Proof{}, err
	}
	if !verify(pub, text[:len(parts[0])+1+len(parts[1])], raw[2]) {
		return Proof{}, errors.New("the signature does not verify")
	}
	return parseClaims(raw[1], key.thumbprint())
}

// parseHeader lets in typ, alg and jwk only: kid, jku, x5c, x5u and crit have no place here.
func parseHeader(data []byte) (jwk, error) {
	if key, ok := plainHeader(data); ok {
		return key, nil
	}
	return parseAnyHeader(data)
}

func parseAnyHeader(data []byte) (jwk, error) {
	members, err := object(data)
	if err != nil {
		return jwk{}, err
	}
	if err := exactly(members, "typ", "alg", "jwk"); err != nil {
		return jwk{}, err
	}
	typ, errTyp := text(members, "typ")
	alg, errAlg := text(members, "alg")
	switch {
	case errTyp != nil || errAlg != nil || typ != "dpop+jwt":
		return jwk{}, errors.New("typ is not dpop+jwt")
	case alg != "ES256":
		return jwk{}, errors.New("alg is not ES256")
	}
	return parseJWK(members["jwk"])
}

func parseJWK(data []byte) (jwk, error) {
	members, err := object(data)
	if err != nil {
		return jwk{}, err
	}
	if _, private := members["d"]; private {
		return jwk{}, errors.New("the key is a private one: it must be considered lost")
	}
	if err := exactly(members, "crv", "kty", "x", "y"); err != nil {
		return jwk{}, err
	}
	var key jwk
	for name, field := range map[string]*string{"crv": &key.Crv, "kty": &key.Kty, "x": &key.X, "y": &key.Y} {
		if *field, err = text(members, name); err != nil {
			return jwk{}, err
		}
	}
	if strings.ContainsAny(key.X+key.Y, "\r\n") {
		return jwk{}, errors.New("a coordinate is not 32 bytes in base64url")
	}
	return key, nil
}

func parseClaims(data []byte, thumbprint string) (Proof, error) {
	if p, ok := plainClaims(data, thumbprint); ok {
		return p, nil
	}
	return parseAnyClaims(data, thumbprint)
}

func parseAnyClaims(data []byte, thumbprint string) (Proof, error) {
	members, err := object(data)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Thumbprint: thumbprint}
	required := map[string]*string{"jti": &p.JTI, "htm": &p.Method, "htu": &p.HTU}
	for name, field := range required {
		if *field, err = text(members, name); err != nil || *field == "" {
			return Proof{}, fmt.Errorf("%s is missing or not a string", name)
		}
	}
	for name, field := range map[string]*string{"nonce": &p.Nonce, "ath": &p.ATH} {
		if _, present := members[name]; !present {
			continue
		}
		if *field, err = text(members, name); err != nil {
			return Proof{}, err
		}
	}
	if len(p.JTI) > maxJTI {
		return Proof{}, errors.New("jti is longer than 128 bytes")
	}
	var iat int64
	if err := json.Unmarshal(members["iat"], &iat); err != nil || iat < 0 || iat > maxIAT {
		return Proof{}, errors.New("iat is missing or not a whole number of seconds")
	}
	p.IssuedAt = time.Unix(iat, 0).UTC()
	return p, nil
}

// maxIAT is the end of the year 9999.
const maxIAT = 253402300799

// object reads a JSON object by exact member names, and refuses a name that comes twice: readers
// disagree about which one counts.
func object(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members := make(map[string]json.RawMessage, 6)
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := members[name]; twice {
			return nil, errors.New("a JSON member comes twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

// exactly checks that members has these names and no other.
func exactly(members map[string]json.RawMessage, names ...string) error {
	for _, name := range names {
		if _, ok := members[name]; !ok {
			return fmt.Errorf("%s is missing", name)
		}
	}
	if len(members) != len(names) {
		return fmt.Errorf("a member other than %s is present", strings.Join(names, ", "))
	}
	return nil
}

func text(members map[string]json.RawMessage, name string) (string, error) {
	raw, ok := members[name]
	if !ok || len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("%s is missing or not a string", name)
	}
	var v string
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("%s is missing or not a string", name)
	}
	return v, nil
}
