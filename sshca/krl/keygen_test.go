package krl

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// dump is what `ssh-keygen -Q -l` says a KRL holds, without comment and time, which ssh-keygen -k sets itself.
func dump(t testing.TB, file string) string {
	t.Helper()
	out, err := exec.Command(program(t, "ssh-keygen"), "-Q", "-l", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen -Q -l: %v: %s", err, out)
	}
	var keep []string
	for l := range strings.Lines(string(out)) {
		if !strings.HasPrefix(l, "# Generated at ") && !strings.HasPrefix(l, "# Comment: ") {
			keep = append(keep, l)
		}
	}
	return strings.Join(keep, "")
}

// keygenMakes makes the same list with `ssh-keygen -k`, a CA after the other.
func keygenMakes(t testing.TB, l List) string {
	t.Helper()
	l, err := l.canonical()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "theirs.krl")
	run := func(spec string, args ...string) {
		t.Helper()
		if _, err := os.Stat(file); err == nil {
			args = append(args, "-u")
		}
		args = append([]string{"-k", "-q", "-f", file, "-z", fmt.Sprint(l.Version)}, append(args, writeFile(t, "spec", []byte(spec)))...)
		if out, err := exec.Command(program(t, "ssh-keygen"), args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen -k: %v: %s", err, out)
		}
	}
	for _, c := range l.CAs {
		spec := ""
		for _, r := range c.Serials {
			if spec += fmt.Sprintf("serial: %d", r.First); r.Last > r.First {
				spec += fmt.Sprintf("-%d", r.Last)
			}
			spec += "\n"
		}
		for _, id := range c.KeyIDs {
			spec += "id: " + id + "\n"
		}
		run(spec, "-s", writeFile(t, "ca.pub", []byte(line(c.CA)+"\n")))
	}
	spec := ""
	for _, k := range l.Keys {
		spec += line(k) + "\n"
	}
	for _, h := range l.Hashes {
		spec += "hash: " + fingerprint(h) + "\n"
	}
	run(spec)
	return file
}

func fingerprint(h Hash) string {
	return "SHA256:" + base64Raw(h[:])
}

func TestKeygenReadsTheSame(t *testing.T) {
	many := List{Version: math.MaxUint32, Generated: made}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5 {
		c := Certificates{CA: public(t, fmt.Sprint("CA ", i))}
		for range 400 {
			first := r.Uint64N(5000) + 1 + uint64(i)<<32
			c.Serials = append(c.Serials, Range{first, first + r.Uint64N(6)})
		}
		many.CAs = append(many.CAs, c)
	}
	other := List{Version: 1, Generated: made, CAs: []Certificates{
		{CA: signerOf(t, rsaKey()).PublicKey(), Serials: []Range{{1, math.MaxUint64}}}, {CA: signerOf(t, ecdsaKey(t)).PublicKey(), KeyIDs: []string{"a b c"}}},
		Keys: []ssh.PublicKey{signerOf(t, rsaKey()).PublicKey()}}
	for name, l := range map[string]List{"every kind": everyKind(t), "many serials": many, "CAs of RSA and ECDSA": other, "nothing": {Version: 1, Generated: made}} {
		t.Run(name, func(t *testing.T) {
			ours := dump(t, writeFile(t, "ours.krl", marshal(t, l)))
			if diff := cmp.Diff(dump(t, keygenMakes(t, l)), ours); diff != "" {
				t.Errorf("-theirs +ours\n%s", diff)
			}
		})
	}
}

// TestKeygenReadsTheHeader: version, time and comment, which the comparison above leaves out.
func TestKeygenReadsTheHeader(t *testing.T) {
	cmd := exec.Command(program(t, "ssh-keygen"), "-Q", "-l", "-f", writeFile(t, "ours.krl", marshal(t, everyKind(t))))
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"# KRL version 7\n", "# Generated at 20260301T120000\n", "# Comment: sega.corp.example\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// TestKeygenAgrees asks `ssh-keygen -Q` about keys and certificates, each of which Revokes judges too.
func TestKeygenAgrees(t *testing.T) {
	front, host, retired := signer(t, "front CA"), signer(t, "host CA"), signer(t, "retired CA")
	certs := map[string]bool{}
	keys := map[string]ssh.PublicKey{}
	add := func(name string, key ssh.PublicKey, revoked bool) { keys[name], certs[name] = key, revoked }
	for _, n := range []uint64{4, 5, 6, math.MaxUint64} {
		add(fmt.Sprint("front ", n), certificate(t, front, "x", n, "x"), true)
	}
	for _, n := range []uint64{0, 1, 3, 7, 8, 9, 1 << 32, math.MaxUint64 - 1} {
		add(fmt.Sprint("front ", n), certificate(t, front, "x", n, "x"), false)
	}
	for _, n := range []uint64{8, 9, 20, 1 << 32, 1<<32 + 1000} {
		add(fmt.Sprint("host ", n), certificate(t, host, "x", n, "old laptop"), true)
	}
	for _, n := range []uint64{0, 4, 7, 10, 1<<32 - 1, 1<<32 + 1001} {
		add(fmt.Sprint("host ", n), certificate(t, host, "x", n, "old laptop"), false)
	}
	add("key ID", certificate(t, front, "x", 100, "old laptop"), true)
	add("key ID without serial", certificate(t, front, "x", 0, "b"), true)
	add("part of a key ID", certificate(t, front, "x", 100, "old"), false)
	add("of a retired CA", certificate(t, retired, "x", 100, "x"), true)
	add("of a CA that is not listed", certificate(t, signer(t, "new CA"), "x", 8, "old laptop"), false)
	add("of a stolen key", certificate(t, signer(t, "new CA"), "stolen key", 1, "x"), true)
	add("of a hashed key", certificate(t, signer(t, "new CA"), "hashed key", 1, "x"), true)
	add("a stolen key", public(t, "stolen key"), true)
	add("a hashed key", public(t, "hashed key"), true)
	add("the key of a retired CA", public(t, "retired CA"), true)
	add("the key of a CA", public(t, "front CA"), false)
	add("another key", public(t, "x"), false)

	file := writeFile(t, "ours.krl", marshal(t, everyKind(t)))
	l, err := Parse(marshal(t, everyKind(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			if got := l.Revokes(key); got != certs[name] {
				t.Errorf("Revokes: %v", got)
			}
			if got := keygenRevokes(t, file, key); got != certs[name] {
				t.Errorf("ssh-keygen -Q: %v", got)
			}
		})
	}
}

// keygenRevokes asks `ssh-keygen -Q`, which exits 1 where a key is revoked and 255 where it cannot say.
func keygenRevokes(t testing.TB, file string, key ssh.PublicKey) bool {
	t.Helper()
	cmd := exec.Command(program(t, "ssh-keygen"), "-Q", "-f", file, writeFile(t, "key.pub", []byte(line(key)+"\n")))
	out, err := cmd.CombinedOutput()
	switch code := cmd.ProcessState.ExitCode(); code {
	case 0:
		return false
	case 1:
		return true
	default:
		t.Fatalf("ssh-keygen -Q: exit %d, %v: %s", code, err, out)
		return false
	}
}

// verify runs `ssh-keygen -Y verify` as somebody who holds the hop CA's line would.
func verify(t testing.TB, key ssh.PublicKey, data, sig []byte) error {
	t.Helper()
	allowed := writeFile(t, "allowed", []byte(`sega namespaces="`+Namespace+`" `+line(key)+"\n"))
	cmd := exec.Command(program(t, "ssh-keygen"), "-Y", "verify", "-f", allowed, "-I", "sega", "-n", Namespace, "-s", writeFile(t, "krl.sig", sig))
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestKeygenVerifies(t *testing.T) {
	data := marshal(t, everyKind(t))
	for name, by := range map[string]ssh.Signer{"ed25519": signer(t, "hop CA"), "ecdsa": signerOf(t, ecdsaKey(t)), "rsa": signerOf(t, rsaKey())} {
		t.Run(name, func(t *testing.T) {
			sig, err := Sign(data, by)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(t, by.PublicKey(), data, sig); err != nil {
				t.Error(err)
			}
			if err := Verify(data, sig, sshca.Bundle{public(t, "next CA"), by.PublicKey()}); err != nil {
				t.Error(err)
			}
			other := everyKind(t)
			other.Version++
			if verify(t, by.PublicKey(), marshal(t, other), sig) == nil {
				t.Error("ssh-keygen takes the signature for that of another version")
			}
		})
	}
}

// TestVerifyReadsKeygen: who has the key in another place signs with ssh-keygen.
func TestVerifyReadsKeygen(t *testing.T) {
	data := marshal(t, everyKind(t))
	sign := func(namespace string, args ...string) []byte {
		cmd := exec.Command(program(t, "ssh-keygen"), append([]string{"-Y", "sign", "-q", "-f", privateFile(t, private("hop CA")), "-n", namespace}, args...)...)
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	bundle := sshca.Bundle{public(t, "hop CA")}
	if err := Verify(data, sign(Namespace), bundle); err != nil {
		t.Error(err)
	}
	if Verify(data, sign("file"), bundle) == nil {
		t.Error("a signature for another purpose is taken")
	}
	if Verify(data, sign(Namespace, "-O", "hashalg=sha256"), bundle) == nil {
		t.Error("another hash than the one that is written is taken")
	}
}
