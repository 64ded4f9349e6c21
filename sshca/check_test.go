package sshca

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestCheckAccessAccepts(t *testing.T) {
	for name, ca := range map[string]ssh.Signer{"ed25519": newEd25519(t), "ecdsa": newECDSA(t), "rsa": newRSA(t, 3072)} {
		for kind, key := range map[string]ssh.PublicKey{"ed25519": newEd25519(t).PublicKey(), "ecdsa": newECDSA(t).PublicKey(), "rsa": newRSA(t, 3072).PublicKey(), "sk": skKey(t)} {
			t.Run(name+" certifies "+kind, func(t *testing.T) {
				p := accessParams(t)
				p.Key = key
				if sameKey(key, ca.PublicKey()) { // the run's one RSA key of this size
					return
				}
				c := issue(t, NewAccess, p, Access, ca)
				back, err := ParseCertificate(MarshalLine(c))
				if err != nil {
					t.Fatal(err)
				}
				old := newEd25519(t).PublicKey()
				if err := CheckAccess(back, Bundle{old, ca.PublicKey()}, noon, anyone); err != nil {
					t.Error(err)
				}
				line, digest := Encode(c)
				if want := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(c)), "\n"); line != want || MarshalLine(c) != want || digest != Digest(c) {
					t.Errorf("encoded as %q and %s, want %q and %s", line, digest, want, Digest(c))
				}
				if Digest(back) != Digest(c) {
					t.Error("digest changed on the way")
				}
			})
		}
	}
}

func TestCheckAccessTime(t *testing.T) {
	ca := newEd25519(t)
	c := issue(t, NewAccess, accessParams(t), Access, ca)
	for name, tt := range map[string]struct {
		now  time.Time
		want error
	}{
		"a second early": {noon.Add(-61 * time.Second), ErrNotYetValid},
		"first moment":   {noon.Add(-60 * time.Second), nil},
		"last moment":    {noon.Add(8*time.Minute - time.Nanosecond), nil},
		"the end":        {noon.Add(8 * time.Minute), ErrExpired},
		"before 1970":    {time.Unix(-1, 0), ErrNotYetValid},
		"zero time":      {time.Time{}, ErrNotYetValid},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckAccess(c, Bundle{ca.PublicKey()}, tt.now, anyone); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCheckAccessSource(t *testing.T) {
	ca := newEd25519(t)
	p := accessParams(t)
	p.SourceAddresses = []string{"198.51.100.0/24", "203.0.113.9", "2001:db8::/64"}
	c := issue(t, NewAccess, p, Access, ca)
	for source, want := range map[string]error{
		"198.51.100.255": nil, "203.0.113.9": nil, "2001:db8::1": nil, "2001:db8::1%eth0": nil, "::ffff:198.51.100.1": nil,
		"198.51.101.0": ErrSource, "203.0.113.8": ErrSource, "2001:db8:0:1::1": ErrSource, "127.0.0.1": ErrSource,
	} {
		if err := CheckAccess(c, Bundle{ca.PublicKey()}, noon, netip.MustParseAddr(source)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", source, err, want)
		}
	}
	if err := CheckAccess(c, Bundle{ca.PublicKey()}, noon, netip.Addr{}); !errors.Is(err, ErrSource) {
		t.Errorf("no address: got %v", err)
	}
}

// badCertificate is what a verifier must refuse although a CA of its bundle has signed it.
type badCertificate struct {
	mutate func(*ssh.Certificate)
	want   error
}

func TestCheckAccessRefuses(t *testing.T) {
	ca := newEd25519(t)
	tests := map[string]badCertificate{
		"host certificate":          {func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, ErrType},
		"type 0":                    {func(c *ssh.Certificate) { c.CertType = 0 }, ErrType},
		"no principals":             {func(c *ssh.Certificate) { c.ValidPrincipals = nil }, ErrPrincipal},
		"one empty principal":       {func(c *ssh.Certificate) { c.ValidPrincipals = []string{""} }, ErrPrincipal},
		"two principals":            {func(c *ssh.Certificate) { c.ValidPrincipals = []string{loginID, loginID} }, ErrPrincipal},
		"comma":                     {func(c *ssh.Certificate) { c.ValidPrincipals = []string{loginID + "," + loginID} }, ErrPrincipal},
		"wildcard":                  {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ses_*"} }, ErrPrincipal},
		"an account":                {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} }, ErrPrincipal},
		"another login":             {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ses_aaaaaaaaaaaaaaaaaaaa"} }, ErrPrincipal},
		"hop certificate":           {func(c *ssh.Certificate) { c.KeyId, c.ValidPrincipals = sessionID+" "+person, []string{"root@db1"} }, ErrKeyID},
		"empty key ID":              {func(c *ssh.Certificate) { c.KeyId = "" }, ErrKeyID},
		"key ID without a session":  {func(c *ssh.Certificate) { c.KeyId = person }, ErrKeyID},
		"key ID without a person":   {func(c *ssh.Certificate) { c.KeyId = loginID }, ErrKeyID},
		"key ID of an SSH session":  {func(c *ssh.Certificate) { c.KeyId = sessionID + " " + person }, ErrKeyID},
		"serial 0":                  {func(c *ssh.Certificate) { c.Serial = 0 }, ErrSerial},
		"forever":                   {func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, ErrLifetime},
		"always":                    {func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, math.MaxInt64 }, ErrLifetime},
		"a week":                    {func(c *ssh.Certificate) { c.ValidBefore += 7 * 24 * 3600 }, ErrLifetime},
		"inside out":                {func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = c.ValidBefore, c.ValidAfter }, ErrLifetime},
		"expired":                   {func(c *ssh.Certificate) { c.ValidAfter -= 3600; c.ValidBefore -= 3600 }, ErrExpired},
		"not yet valid":             {func(c *ssh.Certificate) { c.ValidAfter += 3600; c.ValidBefore += 3600 }, ErrNotYetValid},
		"unknown critical option":   {critical("x@corp.example", "1"), ErrOption},
		"force-command":             {critical("force-command", "true"), ErrOption},
		"verify-required, no FIDO2": {critical("verify-required", ""), ErrOption},
		"verify-required, a value": {func(c *ssh.Certificate) {
			c.Key, c.CriticalOptions = skKey(t), map[string]string{"verify-required": "no"}
		}, ErrOption},
		"no-touch-required": {func(c *ssh.Certificate) {
			c.Key, c.Extensions = skKey(t), map[string]string{"no-touch-required": ""}
		}, ErrExtension},
		"source-address elsewhere":  {critical("source-address", "198.51.100.0/24"), ErrSource},
		"source-address empty":      {critical("source-address", ""), ErrOption},
		"source-address malformed":  {critical("source-address", "192.0.2.7/33"), ErrOption},
		"source-address, one bad":   {critical("source-address", "192.0.2.7,here"), ErrOption},
		"source-address everywhere": {critical("source-address", "0.0.0.0/0"), ErrOption},
		"reserved field":            {func(c *ssh.Certificate) { c.Reserved = []byte("x") }, ErrMalformed},
		"RSA 2048":                  {func(c *ssh.Certificate) { c.Key = newRSA(t, 2048).PublicKey() }, ErrKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := issue(t, NewAccess, accessParams(t), Access, ca)
			tt.mutate(c)
			forge(t, c, ca)
			if err := CheckAccess(c, Bundle{ca.PublicKey()}, noon, anyone); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func critical(name, value string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{name: value} }
}

// What is wrong with the signature is found before anything that the certificate says is believed.
func TestCheckSignatureRefuses(t *testing.T) {
	ca, foreign := newEd25519(t), newEd25519(t)
	bundle := Bundle{ca.PublicKey(), newRSA(t, 3072).PublicKey()}
	sign := func(signer ssh.AlgorithmSigner, algorithm string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) {
			c.SignatureKey = signer.PublicKey()
			sig, err := signer.SignWithAlgorithm(rand.Reader, signedBytes(c), algorithm)
			if err != nil {
				t.Fatal(err)
			}
			c.Signature = sig
		}
	}
	rsaCA := newRSA(t, 3072).(ssh.AlgorithmSigner)
	tests := map[string]badCertificate{
		"foreign CA":             {func(c *ssh.Certificate) { forge(t, c, foreign) }, ErrUnknownCA},
		"foreign CA's name":      {func(c *ssh.Certificate) { forge(t, c, foreign); c.SignatureKey = ca.PublicKey() }, ErrSignature},
		"no signature":           {func(c *ssh.Certificate) { c.Signature = nil }, ErrMalformed},
		"no CA":                  {func(c *ssh.Certificate) { c.SignatureKey = nil }, ErrMalformed},
		"empty signature":        {func(c *ssh.Certificate) { c.Signature = &ssh.Signature{Format: ssh.KeyAlgoED25519} }, ErrSignature},
		"another format":         {func(c *ssh.Certificate) { c.Signature.Format = ssh.KeyAlgoECDSA256 }, ErrAlgorithm},
		"RSA with SHA-1":         {sign(rsaCA, ssh.KeyAlgoRSA), ErrAlgorithm},
		"RSA with SHA-256":       {sign(rsaCA, ssh.KeyAlgoRSASHA256), ErrAlgorithm},
		"another serial":         {func(c *ssh.Certificate) { c.Serial++ }, ErrSignature},
		"another key":            {func(c *ssh.Certificate) { c.Key = foreign.PublicKey() }, ErrSignature},
		"an extension more":      {func(c *ssh.Certificate) { c.Extensions = map[string]string{"x": ""} }, ErrSignature},
		"a principal more":       {func(c *ssh.Certificate) { c.ValidPrincipals = []string{loginID, "root"} }, ErrSignature},
		"a certificate as CA":    {func(c *ssh.Certificate) { c.SignatureKey = issue(t, NewAccess, accessParams(t), Access, ca) }, ErrNestedCA},
		"a certificate as key":   {func(c *ssh.Certificate) { c.Key = issue(t, NewAccess, accessParams(t), Access, ca) }, ErrKey},
		"no key":                 {func(c *ssh.Certificate) { c.Key = nil }, ErrKey},
		"self-signed":            {func(c *ssh.Certificate) { c.Key = foreign.PublicKey(); forge(t, c, foreign) }, ErrUnknownCA},
		"foreign and forged too": {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"}; forge(t, c, foreign) }, ErrUnknownCA},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := issue(t, NewAccess, accessParams(t), Access, ca)
			tt.mutate(c)
			if err := CheckAccess(c, bundle, noon, anyone); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := CheckAccess(nil, bundle, noon, anyone); !errors.Is(err, ErrMalformed) {
		t.Errorf("nil: got %v", err)
	}
	c := issue(t, NewAccess, accessParams(t), Access, ca)
	if err := CheckAccess(c, nil, noon, anyone); !errors.Is(err, ErrUnknownCA) {
		t.Errorf("empty bundle: got %v", err)
	}
	nested := issue(t, NewAccess, accessParams(t), Access, ca)
	nested.SignatureKey = issue(t, NewAccess, accessParams(t), Access, ca)
	if err := CheckAccess(nested, Bundle{nested.SignatureKey}, noon, anyone); !errors.Is(err, ErrNestedCA) {
		t.Errorf("nested CA that the bundle lists: got %v", err)
	}
	if nested.SignatureKey != nil && (Bundle{nested.SignatureKey}).Has(nested.SignatureKey) {
		t.Error("a bundle holds a certificate")
	}
	if err := CheckAccess(issue(t, NewAccess, accessParams(t), Access, newRSA(t, 3072)), bundle, noon, anyone); err != nil {
		t.Errorf("RSA with SHA-512: %v", err)
	}
}

// A newer broker may add an extension; PROTOCOL.certkeys has verifiers ignore what they do not know.
func TestCheckAccessIgnoresExtensions(t *testing.T) {
	ca := newEd25519(t)
	c := issue(t, NewAccess, accessParams(t), Access, ca)
	c.Extensions = map[string]string{"device@sega": "1"}
	if err := CheckAccess(forge(t, c, ca), Bundle{ca.PublicKey()}, noon, anyone); err != nil {
		t.Error(err)
	}
}

// Every flipped bit of the blob must be refused, by the parser or by the check.
func TestTamperedBytes(t *testing.T) {
	for name, ca := range map[string]ssh.Signer{"ed25519": newEd25519(t), "ecdsa": newECDSA(t)} {
		t.Run(name, func(t *testing.T) {
			p := accessParams(t)
			p.SourceAddresses = []string{"192.0.2.0/24"}
			blob := issue(t, NewAccess, p, Access, ca).Marshal()
			parsed := 0
			for i := range blob {
				for bit := range 8 {
					bad := append([]byte(nil), blob...)
					bad[i] ^= 1 << bit
					if shown(t, bad, ca.PublicKey(), &parsed) == nil {
						t.Errorf("byte %d, bit %d: accepted", i, bit)
					}
				}
			}
			for n := range blob {
				if shown(t, blob[:n], ca.PublicKey(), &parsed) == nil {
					t.Errorf("cut to %d bytes: accepted", n)
				}
			}
			if shown(t, append(blob, 0), ca.PublicKey(), &parsed) == nil {
				t.Error("a byte more: accepted")
			}
			if shown(t, blob, ca.PublicKey(), &parsed) != nil || parsed < len(blob) {
				t.Errorf("the test proves nothing: %d of the variants reached the check", parsed)
			}
		})
	}
}

func shown(t *testing.T, blob []byte, ca ssh.PublicKey, parsed *int) error {
	t.Helper()
	c, err := ParseCertificate(ssh.CertAlgoED25519v01 + " " + base64.StdEncoding.EncodeToString(blob))
	if err != nil {
		return err
	}
	*parsed++
	return CheckAccess(c, Bundle{ca}, noon, anyone)
}

func TestCheckHost(t *testing.T) {
	ca := newEd25519(t)
	bundle := Bundle{ca.PublicKey()}
	c := issue(t, NewHost, hostParams(t, Host), Host, ca)
	for name, want := range map[string]error{
		"db1": nil, "db1.prod.example": nil, "db2": ErrPrincipal, "DB1": ErrPrincipal, "db1.": ErrPrincipal, "": ErrPrincipal, "*": ErrPrincipal, "db1:22": ErrPrincipal, "prod.example": ErrPrincipal,
	} {
		if err := CheckHost(c, bundle, name, noon); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", name, err, want)
		}
	}
	tests := map[string]badCertificate{
		"user certificate":   {func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, ErrType},
		"no principals":      {func(c *ssh.Certificate) { c.ValidPrincipals = nil }, ErrPrincipal},
		"wildcard":           {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*"} }, ErrPrincipal},
		"wildcard as well":   {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"db1", "*.prod"} }, ErrPrincipal},
		"comma":              {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"db1,db2"} }, ErrPrincipal},
		"another name":       {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"db2"} }, ErrPrincipal},
		"serial 0":           {func(c *ssh.Certificate) { c.Serial = 0 }, ErrSerial},
		"empty key ID":       {func(c *ssh.Certificate) { c.KeyId = "" }, ErrKeyID},
		"forever":            {func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, ErrLifetime},
		"expired":            {func(c *ssh.Certificate) { c.ValidAfter -= 7200; c.ValidBefore -= 7200 }, ErrExpired},
		"not yet valid":      {func(c *ssh.Certificate) { c.ValidAfter += 7200; c.ValidBefore += 7200 }, ErrNotYetValid},
		"critical option":    {critical("source-address", "192.0.2.0/24"), ErrOption},
		"unknown option":     {critical("x@corp.example", ""), ErrOption},
		"hardware-bound key": {func(c *ssh.Certificate) { c.Key = skKey(t) }, ErrKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := issue(t, NewHost, hostParams(t, Host), Host, ca)
			tt.mutate(c)
			if err := CheckHost(forge(t, c, ca), bundle, "db1", noon); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := CheckHost(forge(t, c, newEd25519(t)), bundle, "db1", noon); !errors.Is(err, ErrUnknownCA) {
		t.Errorf("foreign CA: got %v", err)
	}
}

// One CA's certificate must not pass for another's even where the bundles were mixed up.
func TestProfilesDoNotCross(t *testing.T) {
	ca := newEd25519(t)
	mixed := Bundle{ca.PublicKey()}
	hop := hopParams(t)
	hop.SourceAddresses = []string{"192.0.2.0/24"}
	for name, c := range map[string]*ssh.Certificate{
		"hop":   issue(t, NewHop, hop, Hop, ca),
		"front": issue(t, NewFront, hostParams(t, Front), Front, ca),
		"host":  issue(t, NewHost, hostParams(t, Host), Host, ca),
	} {
		if err := CheckAccess(c, mixed, noon, anyone); err == nil {
			t.Errorf("%s passes for an access certificate", name)
		}
	}
	for name, c := range map[string]*ssh.Certificate{
		"access": issue(t, NewAccess, accessParams(t), Access, ca),
		"hop":    issue(t, NewHop, hop, Hop, ca),
	} {
		if err := CheckHost(c, mixed, "db1", noon); err == nil {
			t.Errorf("%s passes for a host certificate", name)
		}
	}
}

func TestParseLines(t *testing.T) {
	ca := newEd25519(t)
	cert := MarshalLine(issue(t, NewAccess, accessParams(t), Access, ca))
	key := MarshalLine(ca.PublicKey())
	typ, blob, _ := strings.Cut(key, " ")
	if strings.Contains(cert, "\n") {
		t.Error("MarshalLine ends in a newline")
	}
	for _, good := range []string{key, key + "\n", key + " comment", key + " two words\r\n"} {
		if b, err := ParseBundle([]string{good, key}); err != nil || len(b) != 1 || !b.Has(ca.PublicKey()) {
			t.Errorf("%q: got %v, %v", good, b, err)
		}
	}
	for _, bad := range []string{
		"", "\n", "# comment", typ, blob, "ssh-rsa " + blob, typ + " " + blob[:len(blob)-4], typ + " " + blob + "=", typ + " " + blob + "AAAA", "no-pty " + key, key + "\n" + key,
		key + "\x00", typ + " !!!!", MarshalLine(newRSA(t, 2048).PublicKey()), cert, key + " " + strings.Repeat("x", maxLine),
	} {
		if b, err := ParseBundle([]string{key, bad}); err == nil || b != nil {
			t.Errorf("%q: got %v, %v", clip(bad), b, err)
		}
	}
	// Spare bits of the last base64 character: the same key, another line.
	padded := MarshalLine(newECDSA(t).PublicKey())
	last := strings.IndexByte(padded, '=') - 1
	if spare := padded[:last] + string(padded[last]+1) + padded[last+1:]; last < 0 || parseError(spare) == nil || parseError(padded) != nil {
		t.Errorf("%q: spare bits accepted", spare)
	}
	if _, err := ParseCertificate(key); !errors.Is(err, ErrMalformed) {
		t.Errorf("a plain key as certificate: got %v", err)
	}
	if b, err := ParseBundle(nil); err != nil || b.Has(ca.PublicKey()) || b.Has(nil) {
		t.Errorf("empty bundle: got %v, %v", b, err)
	}
}

func parseError(line string) error {
	_, err := ParseKey(line)
	return err
}

// A flag whose empty value is wrapped once more parses and means the same, but is another blob: it
// would have a second Digest.
func TestParseCertificateIsCanonical(t *testing.T) {
	c, err := NewHop(hopParams(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(c, Hop, newEd25519(t)); err != nil {
		t.Fatal(err)
	}
	name := "\x00\x00\x00\x0apermit-pty"
	plain := "\x00\x00\x00\x12" + name + "\x00\x00\x00\x00"
	wrapped := "\x00\x00\x00\x16" + name + "\x00\x00\x00\x04\x00\x00\x00\x00"
	blob := strings.Replace(string(c.Marshal()), plain, wrapped, 1)
	if _, err := ssh.ParsePublicKey([]byte(blob)); err != nil || len(blob) != len(c.Marshal())+4 {
		t.Fatalf("the test proves nothing: %v", err)
	}
	if _, err := ParseCertificate(ssh.CertAlgoED25519v01 + " " + base64.StdEncoding.EncodeToString([]byte(blob))); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}
