//go:build linux

package chaos

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// clockVar sets a wrong clock: a duration in seconds, for the program that wrongClock builds, or the path
// of a file that holds one, which is read again and again while the program runs.
const clockVar = "CHAOS_CLOCK_SECONDS"

// clockProgram is built once.
var clockProgram struct {
	sync.Once
	dir string
	err error
}

// wrongClock is a sega with a standard library whose time.Now is off by what clockVar says: a
// static program reads the clock without asking anybody who could lie to it.
func wrongClock(t *testing.T) string {
	t.Helper()
	clockProgram.Do(func() {
		if clockProgram.dir, clockProgram.err = os.MkdirTemp("", "sega-clock-"); clockProgram.err == nil {
			clockProgram.err = buildWrongClock(clockProgram.dir)
		}
	})
	if clockProgram.err != nil {
		t.Fatal(clockProgram.err)
	}
	return filepath.Join(clockProgram.dir, "sega")
}

// clockOff is what time.Now gets to ask. It is asked by the scheduler too, which may make no call of the
// system: a file is read beside.
const clockOff = `
var clockOffset int64

func init() {
	s, _ := syscall.Getenv("` + clockVar + `")
	if len(s) == 0 || s[0] != '/' {
		atomic.StoreInt64(&clockOffset, clockSeconds(s))
		return
	}
	atomic.StoreInt64(&clockOffset, clockSeconds(clockFile(s)))
	go func() {
		for {
			Sleep(2 * Millisecond)
			atomic.StoreInt64(&clockOffset, clockSeconds(clockFile(s)))
		}
	}()
}

func clockOff() int64 { return atomic.LoadInt64(&clockOffset) }

func clockSeconds(s string) (off int64) {
	sign := int64(1)
	for i := 0; i < len(s); i++ {
		if s[i] == '-' {
			sign = -1
		} else {
			off = 10*off + int64(s[i]-'0')
		}
	}
	return sign * off
}

func clockFile(path string) string {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(fd)
	var buf [16]byte
	n, err := syscall.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}
`

func buildWrongClock(dir string) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	const read = "\tsec, nsec, mono := runtimeNow()\n"
	if !bytes.Contains(data, []byte(read)) {
		return fmt.Errorf("%s does not read the clock as expected", source)
	}
	data = bytes.Replace(data, []byte(read), []byte(read+"\tsec += clockOff()\n"), 1)
	data = bytes.Replace(append(data, clockOff...), []byte("import (\n"), []byte("import (\n\t\"sync/atomic\"\n\t\"syscall\"\n"), 1)
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(changed, data, 0o600), os.WriteFile(overlay, raw, 0o600)); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", filepath.Join(dir, "sega"), "sega/cmd/sega").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// TestWrongClock runs everything that a person does on a laptop whose clock is hours off. Proofs
// carry the server's nonce, and what is valid until when is for the broker to say.
func TestWrongClock(t *testing.T) {
	program := wrongClock(t)
	// Of a certificate that is younger than the clock is slow, TLS says rightly that it is not valid yet.
	r := startRig(t, func(r *rig) { r.oldCertificate() })
	for name, seconds := range map[string]string{"2 h fast": "7200", "2 h slow": "-7200"} {
		t.Run(name, func(t *testing.T) {
			alice := r.Person("alice@example.com")
			run := func(args ...string) devtest.Result { return r.runOff(t, alice, program, seconds, args...) }
			if res := run("login"); res.Code != 0 {
				t.Fatalf("login: exit %d\n%s", res.Code, res.Err)
			}
			for what, args := range map[string][]string{"status": {"status"}, "roles": {"roles"}, "hosts": {"hosts"}, "query": {"audit", "query"},
				"credentials": {"exec", "dev-admin", "--", "true"}, "a session": {"ssh", hostName, "--", "echo through"}} {
				if res := run(args...); res.Code != 0 {
					t.Errorf("%s: exit %d\n%s%s", what, res.Code, res.Out, res.Err)
				} else if what == "a session" && res.Out != "through\n" {
					t.Errorf("the session printed %q", res.Out)
				}
			}
		})
	}
	r.clockIsOff(t, program)
}

// clockIsOff makes sure that the program's clock is what the test says.
func (r *rig) clockIsOff(t *testing.T, program string) {
	t.Helper()
	res := r.runOff(t, r.Person("alice@example.com"), program, "-864000", "login") // TLS looks at the clock
	if res.Code == 0 || !strings.Contains(res.Err, "clock") {
		t.Errorf("with a clock 10 days slow: exit %d\n%s", res.Code, res.Err)
	}
}

// runOff runs the program with a clock that is off; the browser that it opens has a right one.
func (r *rig) runOff(t *testing.T, p *devtest.Person, program, seconds string, args ...string) devtest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Env = p.Environ(clockVar+"="+seconds, "SEGA_DEV_USER="+p.Email, "BROWSER='"+filepath.Join(r.Bin, "segad")+"' dev browser %s")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	_ = c.Run()
	return devtest.Result{Out: out.String(), Err: errs.String(), Code: c.ProcessState.ExitCode()}
}

// oldCertificate gives the broker a certificate that has been valid for a day.
func (r *rig) oldCertificate() {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chaos"}, NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(0, 0, 1),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	r.file.TLS.Certificate, r.file.TLS.Key, r.bfile.CAFile = r.path("tls.pem"), r.path("tls.key"), r.path("tls.pem")
	writeFile(r.t, r.file.TLS.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(r.t, r.file.TLS.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	r.Dev.Env["SEGA_CA_FILE"] = r.bfile.CAFile
}
