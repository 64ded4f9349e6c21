package keychain

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sega/keychain/secret"
)

const (
	// magic is the first line of a sealed file, version included.
	magic = "sega-keychain v1\n"

	keySize   = 32
	nonceSize = 12
	tagSize   = 16

	maxHeader = 4 << 10  // bytes of the second line
	maxFile   = 16 << 20 // bytes
)

// header is the second line of a sealed file, as JSON. The first two lines are the additional
// data of the encryption, so that none of it can be changed unnoticed.
type header struct {
	Backend string `json:"backend"`       // where the key lies: one of the Backend… names
	Item    string `json:"item"`          // the key's name there, 16 hex digits
	Check   string `json:"check"`         // tells this key from others, 16 hex digits
	KDF     *kdf   `json:"kdf,omitempty"` // only with BackendPassphrase
}

// sealed is a file taken apart. nonce and ciphertext are not yet verified.
type sealed struct {
	header header
	nonce  []byte
	text   []byte // ciphertext and tag
}

var errFormat = errors.New("not a sealed file of this version of sega")

// parseSealed takes a file apart; format returns the same bytes.
func parseSealed(data []byte) (sealed, error) {
	if len(data) > maxFile {
		return sealed{}, errors.New("larger than 16 MiB")
	}
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return sealed{}, errFormat
	}
	line, body, ok := bytes.Cut(rest, []byte("\n"))
	if !ok || len(line) > maxHeader || len(body) < nonceSize+tagSize {
		return sealed{}, errors.New("cut short")
	}
	h, err := parseHeader(line)
	if err != nil {
		return sealed{}, err
	}
	return sealed{header: h, nonce: body[:nonceSize], text: body[nonceSize:]}, nil
}

func parseHeader(line []byte) (header, error) {
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return header{}, errors.New("the header is not readable")
	}
	again, err := json.Marshal(h)
	if err != nil || !bytes.Equal(again, line) {
		return header{}, errors.New("the header is not in its one form")
	}
	if !isHex(h.Item) || !isHex(h.Check) {
		return header{}, errors.New("the header has a bad name or check")
	}
	if (h.KDF != nil) != (h.Backend == BackendPassphrase) {
		return header{}, errors.New("the header's parameters do not fit its backend")
	}
	if h.KDF != nil {
		if err := h.KDF.validate(); err != nil {
			return header{}, err
		}
	}
	return h, nil
}

func isHex(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 8 && strings.ToLower(s) == s
}

// prefix is the additional data: the first two lines.
func (h header) prefix() ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	return append(append([]byte(magic), line...), '\n'), nil
}

// format returns the bytes of the file.
func (s sealed) format() ([]byte, error) {
	data, err := s.header.prefix()
	if err != nil {
		return nil, err
	}
	return append(append(data, s.nonce...), s.text...), nil
}

// seal returns a file that holds items under key.
func seal(h header, key secret.Secret, items map[string]secret.Secret) ([]byte, error) {
	plain, err := encodeItems(items)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	aad, err := h.prefix()
	if err != nil {
		return nil, err
	}
	s := sealed{header: h, nonce: make([]byte, nonceSize)}
	rand.Read(s.nonce)
	s.text = aead.Seal(nil, s.nonce, plain, aad)
	data, err := s.format()
	if err == nil && len(data) > maxFile {
		err = errors.New("the secrets take more than 16 MiB")
	}
	return data, err
}

// open returns the items of a file, and an error where the key is not that one or a bit was changed.
func (s sealed) open(key secret.Secret) (map[string]secret.Secret, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	aad, err := s.header.prefix()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, s.nonce, s.text, aad)
	if err != nil {
		return nil, errors.New("its contents do not verify")
	}
	defer clear(plain)
	return decodeItems(plain)
}

func newAEAD(key secret.Secret) (cipher.AEAD, error) {
	if len(key.Reveal()) != keySize {
		return nil, errors.New("the key is not 32 bytes")
	}
	block, err := aes.NewCipher(key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("set up AES-256: %w", err)
	}
	return cipher.NewGCM(block)
}

// keyCheck tells keys apart without giving one away.
func keyCheck(key secret.Secret) string {
	h := hmac.New(sha256.New, key.Reveal())
	h.Write([]byte("sega keychain check v1"))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// The plaintext is a JSON object of names and base64.
func encodeItems(items map[string]secret.Secret) ([]byte, error) {
	raw := make(map[string][]byte, len(items))
	for name, v := range items {
		raw[name] = v.Reveal()
	}
	data, err := json.Marshal(raw)
	if err != nil {
		return nil, errors.New("the secrets cannot be encoded")
	}
	return data, nil
}

func decodeItems(plain []byte) (map[string]secret.Secret, error) {
	var raw map[string][]byte
	if err := json.Unmarshal(plain, &raw); err != nil {
		return nil, errors.New("its contents are not readable")
	}
	items := make(map[string]secret.Secret, len(raw))
	for name, b := range raw {
		items[name] = secret.New(b)
		clear(b)
	}
	return items, nil
}
