package bastion

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/sshca"
)

func pemEncode(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

// openssh is a person's stock OpenSSH client, configured as `sega configure` does it.
type openssh struct {
	t   testing.TB
	dir string
	bin string
}

func (w *world) openssh(t testing.TB, c credential) *openssh {
	t.Helper()
	bin := requireTool(t, "ssh")
	dir := t.TempDir()
	writeKey(t, filepath.Join(dir, "id"), c.key)
	writeFile(t, filepath.Join(dir, "id-cert.pub"), sshca.MarshalLine(c.cert)+"\n")
	writeFile(t, filepath.Join(dir, "known"), "@cert-authority * "+w.control.front.line()+"\n")
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config"), fmt.Sprintf(`
Host bastion
  HostName %s
  Port %s
  HostKeyAlias %s
Host *
  IdentityFile %[4]s/id
  CertificateFile %[4]s/id-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile %[4]s/known
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  PasswordAuthentication no
  BatchMode yes
  LogLevel ERROR
  SendEnv SEGA_*
`, host, port, bastionName, dir))
	return &openssh{t: t, dir: dir, bin: bin}
}

// logAt changes how much ssh says, the one of a jump too.
func (o *openssh) logAt(level string) {
	o.t.Helper()
	path := filepath.Join(o.dir, "config")
	config, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	writeFile(o.t, path, strings.ReplaceAll(string(config), "LogLevel ERROR", "LogLevel "+level))
}

// forms are the ways in which a person reaches web-1.
func forms(login string) map[string][]string {
	return map[string][]string{
		"jump":    {"-J", "bastion", login + "@web-1"},
		"percent": {login + "%web-1@bastion"},
		"plus":    {login + "+web-1@bastion"},
	}
}

func (o *openssh) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, o.bin, append([]string{"-F", filepath.Join(o.dir, "config")}, args...)...)
}

// result is what a command left behind.
type result struct {
	stdout, stderr string
	code           int
}

// run runs ssh to its end.
func (o *openssh) run(stdin []byte, args ...string) result {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := o.command(ctx, args...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		o.t.Fatalf("ssh %v hangs; stderr so far: %s", args, errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// TestSharedConnectionKeepsTheExitStatus has a program that ends its output before itself, over a connection that is shared: OpenSSH's
// own regress/multiplex.sh has found the status missing.
func TestSharedConnectionKeepsTheExitStatus(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	o := start(t, f).openssh(t, f.credential(t))
	dir, err := os.MkdirTemp("", "sega-mux-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for form, args := range forms(currentLogin(t)) {
		shared := append([]string{"-S", filepath.Join(dir, form), "-n"}, args...)
		if r := o.run(nil, append([]string{"-o", "ControlMaster=yes", "-o", "ControlPersist=yes"}, append(shared, "true")...)...); r.code != 0 {
			t.Fatalf("%s: %+v", form, r)
		}
		for _, end := range []struct {
			command string
			code    int
		}{{"exec >/dev/null 2>&1; sleep 0.3; exit 5", 5}, {"echo out; exec >/dev/null 2>&1; sleep 0.3; exit 0", 0}, {"exit 4", 4}} {
			if r := o.run(nil, append(shared, "exec sh -c '"+end.command+"'")...); r.code != end.code {
				t.Errorf("%s, %s: exit %d, want %d\n%s", form, end.command, r.code, end.code, r.stderr)
			}
		}
		o.run(nil, append([]string{"-O", "exit"}, shared...)...)
	}
}
