package softkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.step.sm/crypto/pemutil"
	"golang.org/x/crypto/ssh"

	"sega/keychain/secret"
)

const canary = "correct horse battery"

var passphrase = secret.FromString(canary)

func TestCreateAndOpen(t *testing.T) {
	for _, kind := range []Kind{Ed25519, ECDSAP256, ECDSAP384} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "ca.key")
			pub, err := Create(path, passphrase, kind)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := Open(path, passphrase)
			if kind == ECDSAP256 {
				if !errors.Is(err, ErrIssuer) || signer != nil {
					t.Errorf("an issuer's key signs for SSH: %v", err)
				}
			} else {
				checkSigner(t, signer, err, pub)
			}
			plain, err := OpenSigner(path, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ssh.NewPublicKey(plain.Public()); err != nil || !bytes.Equal(got.Marshal(), pub.Marshal()) {
				t.Errorf("the signer for others is of another key: %v", err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if names := list(t, dir); len(names) != 1 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func checkSigner(t *testing.T, signer ssh.Signer, err error, pub ssh.PublicKey) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signer.PublicKey().Marshal(), pub.Marshal()) {
		t.Error("another key came back")
	}
	sig, err := signer.Sign(rand.Reader, []byte("x"))
	if err != nil || pub.Verify([]byte("x"), sig) != nil {
		t.Errorf("signature does not verify: %v", err)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The file says itself what protects it.
func TestEncryptionIsAES256(t *testing.T) {
	block, _ := pem.Decode(keyFile(t, 0))
	var k encryptedKey
	if _, err := asn1.Unmarshal(block.Bytes, &k); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(k.Algorithm.ID, k.Algorithm.Params.KDF.ID, k.Algorithm.Params.KDF.Params.PRF.ID, k.Algorithm.Params.KDF.Params.Rounds, k.Algorithm.Params.Cipher.ID)
	want := "1.2.840.113549.1.5.13 1.2.840.113549.1.5.12 1.2.840.113549.2.9 600000 2.16.840.1.101.3.4.1.42"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		pass secret.Secret
		kind Kind
		want error
	}{
		"existing file":    {taken, passphrase, Ed25519, ErrExists},
		"dangling link":    {dangling, passphrase, Ed25519, ErrExists},
		"no passphrase":    {filepath.Join(dir, "a"), secret.Secret{}, Ed25519, ErrShort},
		"short passphrase": {filepath.Join(dir, "b"), secret.FromString("12345678901"), Ed25519, ErrShort},
		"unknown kind":     {filepath.Join(dir, "c"), passphrase, "rsa", ErrKind},
		"no directory":     {filepath.Join(dir, "none", "d"), passphrase, Ed25519, fs.ErrNotExist},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pub, err := Create(tt.path, tt.pass, tt.kind)
			if !errors.Is(err, tt.want) || pub != nil {
				t.Errorf("got %v, %v, want %v", pub, err, tt.want)
			}
		})
	}
	for _, path := range []string{taken, dangling} { // somebody else was faster than the early look
		if err := writeNew(path, []byte("new")); !errors.Is(err, ErrExists) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if data, err := os.ReadFile(taken); err != nil || string(data) != "mine" {
		t.Errorf("the existing file is now %q, %v", data, err)
	}
	if names := list(t, dir); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
}

// Of several at once one wins, and the file is the winner's.
func TestCreateRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.key")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		wins []ssh.PublicKey
	)
	for range 3 {
		wg.Go(func() {
			pub, err := Create(path, passphrase, Ed25519)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins = append(wins, pub)
			} else if !errors.Is(err, ErrExists) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	signer, err := Open(path, passphrase)
	if err != nil || len(wins) != 1 || !bytes.Equal(wins[0].Marshal(), signer.PublicKey().Marshal()) {
		t.Errorf("%d winners, %v", len(wins), err)
	}
}

// keyFiles are made once a run, each costs two derivations.
var keyFiles = sync.OnceValues(func() ([2][]byte, error) {
	var files [2][]byte
	for i := range files {
		data, _, err := generate(passphrase, Ed25519)
		if err != nil {
			return files, err
		}
		files[i] = data
	}
	return files, nil
})

// keyFile returns one of two files' bytes; the caller may change them.
func keyFile(t *testing.T, i int) []byte {
	t.Helper()
	files, err := keyFiles()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(files[i])
}

func plainDER(t *testing.T) (ed25519.PrivateKey, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// rewritten returns the key file with its parameters changed.
func rewritten(t *testing.T, change func(*encryptedKey)) []byte {
	t.Helper()
	line, rest, _ := bytes.Cut(keyFile(t, 0), []byte("\n"))
	block, _ := pem.Decode(rest)
	var k encryptedKey
	if _, err := asn1.Unmarshal(block.Bytes, &k); err != nil {
		t.Fatal(err)
	}
	change(&k)
	der, err := asn1.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(line, []byte("\n"), pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
}

func TestOpenRefuses(t *testing.T) {
	pemutil.PromptPassword = func(string) ([]byte, error) { t.Error("asks for a passphrase"); return []byte(canary), nil }
	t.Cleanup(func() { pemutil.PromptPassword = nil })
	key, der := plainDER(t)
	good := keyFile(t, 0)
	weak := func(alg x509.PEMCipher) []byte {
		block, err := pemutil.EncryptPKCS8PrivateKey(rand.Reader, der, []byte(canary), alg)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(block)
	}
	//lint:ignore SA1019 the weak form is what must be refused
	legacy, err := x509.EncryptPEMBlock(rand.Reader, "PRIVATE KEY", der, []byte(canary), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	openssh, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	line, block, _ := bytes.Cut(good, []byte("\n"))
	otherLine, _, _ := bytes.Cut(keyFile(t, 1), []byte("\n"))
	under := func(block []byte) []byte { return slices.Concat(line, []byte("\n"), block) }
	tests := map[string]struct {
		data []byte
		mode fs.FileMode
		pass secret.Secret
		want error
	}{
		"plain PKCS#8":          {under(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600, passphrase, ErrPlain},
		"plain PKCS#8, no pass": {under(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600, secret.Secret{}, ErrPlain},
		"plain in disguise":     {under(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})), 0o600, passphrase, ErrMalformed},
		"RFC 1421":              {under(pem.EncodeToMemory(legacy)), 0o600, passphrase, ErrWeak},
		"OpenSSH's form":        {under(pem.EncodeToMemory(openssh)), 0o600, passphrase, ErrMalformed},
		"DES":                   {under(weak(x509.PEMCipherDES)), 0o600, passphrase, ErrWeak},
		"3DES":                  {under(weak(x509.PEMCipher3DES)), 0o600, passphrase, ErrWeak},
		"AES-128":               {under(weak(x509.PEMCipherAES128)), 0o600, passphrase, ErrWeak},
		"few rounds":            {rewritten(t, func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Rounds = 1 }), 0o600, passphrase, ErrWeak},
		"endless rounds":        {rewritten(t, func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Rounds = 1 << 31 }), 0o600, passphrase, ErrWeak},
		"HMAC-SHA-1": {rewritten(t, func(k *encryptedKey) {
			k.Algorithm.Params.KDF.Params.PRF.ID = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
		}), 0o600, passphrase, ErrWeak},
		"no salt":               {rewritten(t, func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Salt = nil }), 0o600, passphrase, ErrWeak},
		"short IV":              {rewritten(t, func(k *encryptedKey) { k.Algorithm.Params.Cipher.IV = []byte{1} }), 0o600, passphrase, ErrMalformed},
		"half a block":          {rewritten(t, func(k *encryptedKey) { k.Data = k.Data[:len(k.Data)-3] }), 0o600, passphrase, ErrMalformed},
		"no data":               {rewritten(t, func(k *encryptedKey) { k.Data = nil }), 0o600, passphrase, ErrMalformed},
		"other ciphertext":      {rewritten(t, func(k *encryptedKey) { k.Data[0] ^= 1 }), 0o600, passphrase, ErrPassphrase},
		"wrong passphrase":      {good, 0o600, secret.FromString("incorrect horse battery"), ErrPassphrase},
		"empty passphrase":      {good, 0o600, secret.Secret{}, ErrPassphrase},
		"two keys":              {slices.Concat(good, block), 0o600, passphrase, ErrMalformed},
		"text before the key":   {slices.Concat([]byte("x\n"), good), 0o600, passphrase, ErrMalformed},
		"no public key":         {block, 0o600, passphrase, ErrMalformed},
		"empty public key":      {slices.Concat([]byte("\n"), block), 0o600, passphrase, ErrDamaged},
		"another public key":    {slices.Concat(otherLine, []byte("\n"), block), 0o600, passphrase, ErrDamaged},
		"half the seed damaged": {rewritten(t, func(k *encryptedKey) { k.Data[16] ^= 1 }), 0o600, passphrase, ErrDamaged},
		"empty file":            {nil, 0o600, passphrase, ErrMalformed},
		"huge file":             {bytes.Repeat([]byte("\n"), maxFile+1), 0o600, passphrase, ErrMalformed},
		"world-readable":        {good, 0o604, passphrase, ErrPermissions},
		"group-readable":        {good, 0o640, passphrase, ErrPermissions},
		"world-writable":        {good, 0o602, passphrase, ErrPermissions},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ca.key")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			signer, err := Open(path, tt.pass)
			if !errors.Is(err, tt.want) || signer != nil {
				t.Fatalf("got %v, %v, want %v", signer, err, tt.want)
			}
			if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, "horse") {
				t.Errorf("the passphrase shows: %s", text)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), passphrase); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if _, err := Open(t.TempDir(), passphrase); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrPermissions) {
		t.Errorf("a directory: got %v", err)
	}
}

// No bytes may panic the CBC decrypter or get past the checks.
func FuzzCheckEncryption(f *testing.F) {
	data, _, err := generate(passphrase, Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(data)
	f.Add(block.Bytes)
	f.Add([]byte{})
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		var k encryptedKey
		if checkEncryption(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})) != nil {
			return
		}
		if _, err := asn1.Unmarshal(der, &k); err != nil || k.check() != nil {
			t.Errorf("accepted what does not parse: %v", err)
		}
		if p := k.Algorithm.Params; p.KDF.Params.Rounds < minRounds || len(p.Cipher.IV) != 16 || len(k.Data)%16 != 0 || len(k.Data) == 0 {
			t.Errorf("accepted %+v", p)
		}
	})
}
