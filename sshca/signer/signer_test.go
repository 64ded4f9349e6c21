package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/softkey"
)

// needs skips where a program is missing, and fails in CI.
func needs(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// certifies has a CA sign a good certificate of the front profile, which a laptop would take.
func certifies(t testing.TB, ca ssh.Signer) error {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	after, before := sshca.Front.Window(time.Now(), time.Hour)
	cert, err := sshca.NewFront(sshca.HostParams{Key: key, Serial: 1, KeyID: "front test", Names: []string{"bastion.test"}, ValidAfter: after, ValidBefore: before})
	if err != nil {
		t.Fatal(err)
	}
	if err := sshca.Sign(cert, sshca.Front, ca); err != nil {
		return err
	}
	return sshca.CheckFront(cert, sshca.Bundle{ca.PublicKey()}, time.Now())
}

// lints has a CA asked for a certificate that its profile does not allow.
func lints(t testing.TB, ca ssh.Signer) {
	t.Helper()
	after, before := sshca.Front.Window(time.Now(), time.Hour)
	cert, err := sshca.NewFront(sshca.HostParams{Key: ca.PublicKey(), Serial: 1, KeyID: "front test", Names: []string{"bastion.test"}, ValidAfter: after, ValidBefore: before})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(c *ssh.Certificate){
		"no principals": func(c *ssh.Certificate) { c.ValidPrincipals = nil },
		"wildcard":      func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*"} },
		"comma":         func(c *ssh.Certificate) { c.ValidPrincipals = []string{"a,b"} },
		"for ever":      func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity },
		"a day":         func(c *ssh.Certificate) { c.ValidBefore = c.ValidAfter + 86400 },
		"option":        func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} },
		"extension":     func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": ""} },
		"serial 0":      func(c *ssh.Certificate) { c.Serial = 0 },
		"user":          func(c *ssh.Certificate) { c.CertType = ssh.UserCert },
		"its own key":   func(*ssh.Certificate) {},
	} {
		bad := *cert
		spoil(&bad)
		if err := sshca.Sign(&bad, sshca.Front, ca); err == nil || bad.Signature != nil || errors.Is(err, sshca.ErrSigner) {
			t.Errorf("%s: signed, or the key was asked: %v", name, err)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "front")
	c := Config{Passphrase: secret.FromString("correct horse battery"), Path: func(p string) string { return filepath.Join(filepath.Dir(path), p) }}
	if _, err := softkey.Create(path, c.Passphrase, softkey.Ed25519); err != nil {
		t.Fatal(err)
	}
	ca, err := Open(t.Context(), "front", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := certifies(t, ca); err != nil {
		t.Error(err)
	}
	lints(t, ca)
}

// TestPlaces: what is not the place of a key is refused, and no PIN of it is repeated.
func TestPlaces(t *testing.T) {
	for place, want := range map[string]string{
		"azurekms:name=x":                            "the scheme is",
		"pkcs11:token=a;object=b?pin-value=canary":   "?pin-source=FILE",
		"pkcs11:token=a;object=b;pin-value=canary":   "?pin-source=FILE",
		"pkcs11:token=a;object=b?pin-prompt=canary":  "?pin-source=FILE",
		"pkcs11:token=a;token=canary;object=b":       "stands twice",
		"awskms:region=eu-west-1":                    "no key-id",
		"awskms:key-id=":                             "empty",
		"awskms:key-id=alias/Canary":                 "lower case",
		"awskms:key-id=a;endpoint=http://canary.net": "and not what is there",
		"sshagentkms:":                               "no comment",
		"sshagentkms:ca?pin-value=canary":            "PIN",
		"sshagentkms:%zz":                            "cannot be read",
	} {
		_, err := Open(t.Context(), place, Config{Secret: func(string) (secret.Secret, error) { return secret.Secret{}, errors.New("no secret") }})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(strings.ToLower(err.Error()), "canary") {
			t.Errorf("%s: %v, want %q and no value", place, err, want)
		}
	}
	for place, file := range map[string]bool{"ca/access": true, "/etc/sega/ca": true, "./pkcs11:x": true, "../awskms:": true, "pkcs11:token=a": false, "awskms:key-id=1": false, "": true} {
		if IsFile(place) != file {
			t.Errorf("IsFile(%q) is %v", place, !file)
		}
	}
}

// TestWithoutPKCS11: a build without it says how to get one.
func TestWithoutPKCS11(t *testing.T) {
	if HasPKCS11 {
		t.Skip("this build has PKCS#11")
	}
	place := "pkcs11:token=a;object=b;id=01"
	_, opened := Open(t.Context(), place, Config{})
	_, created := Create(t.Context(), place, Config{})
	for _, err := range []error{opened, created} {
		if err == nil || !strings.Contains(err.Error(), "make segad-pkcs11") {
			t.Errorf("got %v", err)
		}
	}
}

// FuzzPlace: no place makes it panic, and none that is accepted has an attribute that is not known.
func FuzzPlace(f *testing.F) {
	for _, place := range []string{"pkcs11:token=a;object=b;id=01?pin-source=/etc/pin", "awskms:region=eu-west-1;key-id=1", "sshagentkms:ca key?socket=/run/a", "ca/access", "pkcs11:?pin-value=1", ":", "awskms:%"} {
		f.Add(place)
	}
	f.Fuzz(func(t *testing.T, place string) {
		if IsFile(place) {
			return
		}
		_, u, err := parse(place)
		if err == nil && (u.Has("pin-value") || u.Has("pin-prompt")) && !strings.HasPrefix(place, schemeAgent) {
			t.Errorf("%q is accepted with a PIN in it", place)
		}
	})
}

// sshAgent runs OpenSSH's agent with the keys of files.
func sshAgent(t testing.TB, socket string, files ...string) (stop func()) {
	t.Helper()
	c := exec.Command(needs(t, "ssh-agent"), "-D", "-a", socket)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = c.Process.Kill(); _ = c.Wait(); _ = os.Remove(socket) })
	t.Cleanup(stop)
	for start := time.Now(); ; {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("ssh-agent does not listen")
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, file := range files {
		agentDo(t, socket, "", "ssh-add", "-q", file)
	}
	return stop
}

func agentDo(t testing.TB, socket, input string, args ...string) {
	t.Helper()
	c := exec.Command(needs(t, args[0]), args[1:]...)
	c.Env, c.Stdin = append(os.Environ(), "SSH_AUTH_SOCK="+socket), strings.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func keygen(t testing.TB, path, comment string, args ...string) {
	t.Helper()
	if out, err := exec.Command(needs(t, "ssh-keygen"), append([]string{"-q", "-N", "", "-C", comment, "-f", path}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// TestAgent: a real ssh-agent signs; while it is gone, or has another key under the name, nothing is signed; a new one with the
// same key is found by itself.
func TestAgent(t *testing.T) {
	dir := t.TempDir()
	socket, first, other := filepath.Join(dir, "agent"), filepath.Join(dir, "first"), filepath.Join(dir, "other")
	for kind, args := range map[string][]string{"ed25519": {"-t", "ed25519"}, "rsa": {"-t", "rsa", "-b", "3072"}, "ecdsa": {"-t", "ecdsa", "-b", "384"}} {
		t.Run(kind, func(t *testing.T) {
			first, other := first+kind, other+kind
			keygen(t, first, "front ca", args...)
			keygen(t, other, "front ca", args...)
			stop := sshAgent(t, socket, first)
			place := "sshagentkms:front%20ca?socket=" + socket
			if _, err := Open(t.Context(), "sshagentkms:nobody?socket="+socket, Config{}); err == nil {
				t.Error("a key that the agent has not was opened")
			}
			ca, err := Open(t.Context(), place, Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ca.(io.Closer).Close() }()
			if err := certifies(t, ca); err != nil {
				t.Error(err)
			}
			lints(t, ca)
			stop()
			if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) {
				t.Errorf("without the agent: %v", err)
			}
			stop = sshAgent(t, socket, other)
			if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) || !errors.Is(err, ErrChanged) {
				t.Errorf("with another key of that name: %v", err)
			}
			stop()
			defer sshAgent(t, socket, first)()
			if err := certifies(t, ca); err != nil {
				t.Errorf("with the agent again: %v", err)
			}
			agentDo(t, socket, "", "ssh-add", "-q", "-D")
			if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) {
				t.Errorf("without its keys: %v", err)
			}
		})
	}
}

// kmsDouble answers as AWS KMS does (API reference, GetPublicKey and Sign), and refuses what that would refuse.
type kmsDouble struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	mu   sync.Mutex
	fail string // __type of an error to answer with
	asks []string
}

const kmsKey = "1234abcd-12ab-34cd-56ef-1234567890ab"

func (k *kmsDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	target, body := r.Header.Get("X-Amz-Target"), map[string]any{}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(kind string) { answer(400, map[string]string{"__type": kind, "message": kind}) }
	if r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/kms/aws4_request") {
		refuse("MissingAuthenticationTokenException")
		return
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body["KeyId"] != kmsKey {
		refuse("NotFoundException")
		return
	}
	k.asks = append(k.asks, target)
	if k.fail != "" {
		refuse(k.fail)
		return
	}
	switch target {
	case "TrentService.GetPublicKey":
		der, err := x509.MarshalPKIXPublicKey(k.key.Public())
		if err != nil {
			k.t.Error(err)
		}
		answer(200, map[string]any{"KeyId": kmsKey, "PublicKey": der, "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": []string{"ECDSA_SHA_256"}})
	case "TrentService.Sign":
		var digest []byte
		raw, _ := json.Marshal(body["Message"])
		if json.Unmarshal(raw, &digest) != nil || len(digest) != sha256.Size || body["MessageType"] != "DIGEST" || body["SigningAlgorithm"] != "ECDSA_SHA_256" {
			refuse("ValidationException")
			return
		}
		signature, err := ecdsa.SignASN1(rand.Reader, k.key, digest)
		if err != nil {
			k.t.Error(err)
		}
		answer(200, map[string]any{"KeyId": kmsKey, "Signature": signature, "SigningAlgorithm": "ECDSA_SHA_256"})
	default:
		refuse("UnknownOperationException")
	}
}

func (k *kmsDouble) failing(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = kind
}

// TestAWSKMS signs by a strict double of KMS; what KMS refuses signs nothing, and another key under the ID neither.
func TestAWSKMS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	double := &kmsDouble{t: t, key: key}
	web := httptest.NewServer(double)
	defer web.Close()
	for name, value := range map[string]string{"AWS_ENDPOINT_URL_KMS": web.URL, "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1", "AWS_PROFILE": ""} {
		t.Setenv(name, value)
	}
	if _, err := Open(t.Context(), "awskms:region=eu-west-1;key-id=00000000-12ab-34cd-56ef-1234567890ab", Config{}); err == nil {
		t.Error("a key that KMS has not was opened")
	}
	ca, err := Open(t.Context(), "awskms:region=eu-west-1;key-id="+kmsKey, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := certifies(t, ca); err != nil {
		t.Error(err)
	}
	double.mu.Lock()
	asked := len(double.asks)
	double.mu.Unlock()
	lints(t, ca)
	double.mu.Lock()
	if len(double.asks) != asked {
		t.Error("KMS was asked to sign what the profile does not allow")
	}
	double.mu.Unlock()
	for _, kind := range []string{"ThrottlingException", "DisabledException", "KMSInternalException", "AccessDeniedException"} {
		double.failing(kind)
		if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	double.failing("")
	if err := certifies(t, ca); err != nil {
		t.Errorf("when KMS answers again: %v", err)
	}
	double.mu.Lock()
	if double.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	double.mu.Unlock()
	if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) {
		t.Errorf("with another key under the ID: %v", err)
	}
	if err := certifies(t, ca); !errors.Is(err, ErrChanged) {
		t.Errorf("opened anew with another key under the ID: %v", err)
	}
}

// TestFalseSignature: a signature that does not verify is none, and the key that made it is opened anew.
func TestFalseSignature(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	r := &remote{public: good.PublicKey(), busy: make(chan struct{}, 1), open: func(context.Context) (key, error) { opened++; return key{Signer: good}, nil }}
	if err := certifies(t, r); err != nil || opened != 1 {
		t.Errorf("%v, opened %d times", err, opened)
	}
	r.mu.Lock()
	r.key = &key{Signer: lying{good}}
	r.mu.Unlock()
	if err := certifies(t, r); !errors.Is(err, sshca.ErrSigner) {
		t.Errorf("a signature that does not verify was used: %v", err)
	}
	if err := certifies(t, r); err != nil || opened != 2 {
		t.Errorf("%v, opened %d times", err, opened)
	}
}

// TestHangs: where a key hangs, whoever wants a signature waits for signTime, although the key cannot be closed as long; the next
// signature opens it anew.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		good, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		wakes, closed := make(chan struct{}), false
		r := &remote{public: good.PublicKey(), busy: make(chan struct{}, 1), open: func(context.Context) (key, error) { return key{Signer: good}, nil }}
		r.key = &key{Signer: hanging{good, wakes}, close: func() error { <-wakes; closed = true; return nil }}
		start := time.Now()
		if err := certifies(t, r); !errors.Is(err, ErrSlow) || time.Since(start) != signTime {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if err := certifies(t, r); err != nil {
			t.Errorf("opened anew: %v", err)
		}
		close(wakes)
		synctest.Wait()
		if !closed {
			t.Error("the key that hung was not closed")
		}
	})
}

// hanging signs once it wakes.
type hanging struct {
	ssh.Signer
	wakes chan struct{}
}

func (h hanging) SignWithAlgorithm(rand io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	<-h.wakes
	return h.Sign(rand, data)
}

// lying signs something else.
type lying struct{ ssh.Signer }

func (l lying) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return l.Signer.Sign(rand, append(bytes.Clone(data), 'x'))
}

func (l lying) SignWithAlgorithm(rand io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return l.Sign(rand, data)
}
