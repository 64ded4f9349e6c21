//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
	"sega/sshca"
)

// hostRig is a stock sshd in a folder of its own, on which `sega host` is run by root. The folder lies where
// no parent is for everybody to write, as sshd asks of the programs that it calls.
type hostRig struct {
	t     *testing.T
	e     *devtest.Env
	admin *devtest.Person // whose environment names the broker, and nothing else
	dir   string
	port  int
	sega  string
	name  string
}

func newHostRig(t *testing.T, e *devtest.Env, name string) *hostRig {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("hosts are enrolled by root: run the tests as root")
		}
		t.Skip("hosts are enrolled by root")
	}
	devtest.Need(t, "/usr/sbin/sshd", "ssh-keygen")
	dir, err := os.MkdirTemp("/var/lib", "sega-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &hostRig{t: t, e: e, admin: e.Person("root@" + name), dir: dir, sega: filepath.Join(dir, "sega"), name: name, port: freeport.For(t)}
	program, err := os.ReadFile(filepath.Join(e.Bin, "sega"))
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(r.sega, program, 0o755), os.MkdirAll(r.file("sshd_config.d"), 0o755), os.MkdirAll("/run/sshd", 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.file("ssh_host_ed25519_key")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, r.file("sshd_config"), fmt.Sprintf(`Include %[1]s/sshd_config.d/*.conf
ListenAddress 127.0.0.1
Port %[2]d
HostKey %[1]s/ssh_host_ed25519_key
PidFile %[1]s/sshd.pid
AuthorizedKeysFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
LogLevel VERBOSE
SetEnv SHLVL=1
`, dir, r.port)) // SHLVL: bash reads no start-up file of root's for a command
	return r
}

// configure gives a keyword of sshd's another value.
func (r *hostRig) configure(keyword, value string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file("sshd_config"))
	if err != nil {
		r.t.Fatal(err)
	}
	out := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, keyword+" ") {
			line = keyword + " " + value + "\n"
		}
		out += line
	}
	write(r.t, r.file("sshd_config"), out)
}

func (r *hostRig) file(name string) string { return filepath.Join(r.dir, name) }
func (r *hostRig) state() string           { return r.file("state") }

// start runs a program until the test ends, and waits until ready says so.
func (r *hostRig) start(what string, ready func() error, argv ...string) (stop func()) {
	r.t.Helper()
	log, err := os.OpenFile(r.file(what+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = r.admin.Environ(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if r.t.Failed() {
			text, _ := os.ReadFile(r.file(what + ".log"))
			r.t.Logf("%s of %s:\n%s", what, r.name, text)
		}
	}
	r.t.Cleanup(stop)
	devtest.Eventually(r.t, 20*time.Second, what+" is not ready", ready)
	return stop
}

func (r *hostRig) startSSHD() func() {
	return r.start("sshd", func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err == nil {
			err = c.Close()
		}
		return err
	}, "/usr/sbin/sshd", "-D", "-e", "-f", r.file("sshd_config"))
}

func (r *hostRig) startDaemon() func() {
	return r.start("daemon", func() error {
		if s := r.host("status"); !strings.Contains(s.Out, "answers") || strings.Contains(s.Out, "does not answer") {
			return errors.New(s.Out + s.Err)
		}
		return nil
	}, r.sega, "host", "run", "--dir", r.state())
}

// host runs `sega host …` as root.
func (r *hostRig) host(args ...string) devtest.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.sega, append([]string{"host", args[0], "--dir", r.state()}, args[1:]...)...)
	cmd.Env = r.admin.Environ()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return devtest.Result{Out: out.String(), Err: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// enroll runs `sega host enroll` for the rig's sshd.
func (r *hostRig) enroll(args ...string) devtest.Result {
	r.t.Helper()
	return r.host(append([]string{"enroll", "--name", r.name, "--sshd-config", r.file("sshd_config"), "--snippet", r.file("sshd_config.d/00-sega.conf"),
		"--socket", r.file("socket"), "--sega", r.sega}, args...)...)
}

// token has somebody who may make a token for the rig, in a file.
func (r *hostRig) token(by *devtest.Person, more ...string) string {
	r.t.Helper()
	v := by.Sega(append([]string{"hosts", "token", r.name, "--address", fmt.Sprintf("127.0.0.1:%d", r.port), "--login", r.e.Host.Login, "--label", "env=dev"}, more...)...)
	says := "--token-file FILE"
	if slices.Contains(more, "--plain-keys") {
		says += " --plain-keys" // or the host would be refused when its token is spent
	}
	expect(r.t, v, 0, "sega_join_", says+"\n")
	return write(r.t, r.file("token"), v.Out)
}

func (r *hostRig) certificate() string {
	r.t.Helper()
	text, err := os.ReadFile(r.file("ssh_host_ed25519_key-cert.pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// certificateOtherThan is nil once the host shows another certificate.
func (r *hostRig) certificateOtherThan(old string) error {
	if r.certificate() == old {
		return errors.New("it is the old one")
	}
	return nil
}

// revokeCertificate has somebody revoke the certificate that the host shows, which it returns.
func (r *hostRig) revokeCertificate(by *devtest.Person) string {
	r.t.Helper()
	text := r.certificate()
	cert, err := sshca.ParseCertificate(text)
	if err != nil {
		r.t.Fatal(err)
	}
	expect(r.t, by.Sega("revoke", "cert", sshca.Serial(cert.Serial).String(), "--profile", "host", "--yes", "--reason", "test"), 0)
	return text
}
