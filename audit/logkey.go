package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// LogKey is the Ed25519 key that signs checkpoints, in the encoding of package note. It is none of
// the CAs' keys (design R9). It implements note.Signer; it prints and logs redacted, and its bytes
// leave through Reveal alone.
type LogKey struct {
	note.Signer
	text     **string // behind two pointers, so that no verb of fmt prints it from a struct
	vkey     string
	verifier note.Verifier
}

// GenerateLogKey makes a key for the log of that origin, e.g. "sega.corp.example/audit": no spaces,
// no plus.
func GenerateLogKey(origin string) (*LogKey, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("audit: generate log key: %w", err)
	}
	return ParseLogKey([]byte(skey))
}

// ParseLogKey reads what Reveal gave; space around it is ignored. Errors do not quote it.
func ParseLogKey(text []byte) (*LogKey, error) {
	skey := strings.TrimSpace(string(text))
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, errors.New("audit: not a log key: want one line PRIVATE+KEY+origin+hash+key")
	}
	// note.NewSigner has checked form and hash: the last field is an algorithm byte and the seed.
	seed, err := base64.StdEncoding.DecodeString(skey[strings.LastIndex(skey, "+"+fmt.Sprintf("%08x", signer.KeyHash())+"+")+10:])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errors.New("audit: not an Ed25519 log key")
	}
	pub := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), pub)
	if err != nil {
		return nil, fmt.Errorf("audit: log key: %w", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("audit: log key: %w", err)
	}
	p := &skey
	return &LogKey{Signer: signer, text: &p, vkey: vkey, verifier: verifier}, nil
}

// Verifier returns the verifier of the key's signatures.
func (k *LogKey) Verifier() note.Verifier { return k.verifier }

// VerifierKey returns the public key in note's encoding, for clients to pin.
func (k *LogKey) VerifierKey() string { return k.vkey }

// Reveal returns the private key's text, for the file that keeps it.
func (k *LogKey) Reveal() []byte { return []byte(**k.text) }

// Format implements fmt.Formatter for every verb.
func (k *LogKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[log key "+k.Name()+"]") }

// LogValue implements slog.LogValuer.
func (k *LogKey) LogValue() slog.Value { return slog.StringValue("[log key " + k.Name() + "]") }

// MarshalText implements encoding.TextMarshaler and redacts.
func (k *LogKey) MarshalText() ([]byte, error) { return []byte("[log key " + k.Name() + "]"), nil }
