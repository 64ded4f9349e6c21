//go:build linux

package clients

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
)

// forwarding permits every forward; what is refused all the same is refused whatever policy says.
const forwarding = `
@id("engineers-forward")
permit (principal in Group::"engineering", action == Action::"forward", resource is Host);
@id("engineers-forward-agent")
permit (principal in Group::"engineering", action == Action::"forwardAgent", resource is Host);
`

func permittedRows() []row {
	return []row{
		{client: "ssh", use: "-L", policy: forwarding, run: throughLocal, commands: []string{"exec sleep"}, forwards: []string{"success direct-tcpip"}},
		{client: "ssh", use: "-D", policy: forwarding, run: throughDynamic, more: true, commands: []string{"exec sleep"}, forwards: []string{"success direct-tcpip"}},
		{client: "ssh", use: "-W", policy: forwarding, run: throughStdio, more: true, forwards: []string{"success direct-tcpip"}},
		{client: "ssh", use: "-R", policy: forwarding, run: throughRemote, commands: []string{"exec sleep"}, forwards: []string{"success forwarded-tcpip", "success tcpip-forward"}},
		{client: "ssh", use: "-A", policy: forwarding, run: lentAgent, commands: []string{"exec test -S"},
			forwards: []string{"success auth-agent-req@openssh.com", "success auth-agent@openssh.com"}},
		{client: "ssh", use: "-J back to the host's own sshd", policy: forwarding, run: jumpBack, forwards: []string{"denied direct-tcpip"}},
		{client: "mosh", use: "by the bastion, forbidden", policy: withoutMosh, needs: []string{"mosh"}, run: moshForbidden, commands: []string{"exec sh -c"}},
	}
}

// permit adds a policy to the broker's, unless it has it, and waits until it is in force.
func (w *world) permit(t testing.TB, text string) {
	t.Helper()
	path := filepath.Join(w.Data, "policy", "clients.cedar")
	if now, err := os.ReadFile(path); err == nil && string(now) == text {
		return
	}
	mark := w.mark(t)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "the policy is not loaded", func() error {
		if len(w.reviewer.Events("--after", mark, "--kind", "policy.reload", "--outcome", "success")) == 0 {
			return errNotYet
		}
		return nil
	})
}

// echoing starts a server that gives back what it gets, and returns its address.
func echoing(t testing.TB) string {
	t.Helper()
	return serving(t, func(c net.Conn) {
		go func() { // ends with the connection
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	})
}

// exchange sends the data and wants it back.
func (w *world) exchange(t testing.TB, c net.Conn) {
	t.Helper()
	content, err := os.ReadFile(w.data)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { _, err := c.Write(content); sent <- err }()
	back := make([]byte, len(content))
	if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, content) {
		t.Errorf("not what was sent came back (%v)", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func throughLocal(t *testing.T, w *world) {
	local := freeport.Address(freeport.For(t))
	w.beside(t, local, []string{"-L", local + ":" + echoing(t)}, func(c net.Conn) { w.exchange(t, c) })
}

func throughDynamic(t *testing.T, w *world) {
	local, far := freeport.Address(freeport.For(t)), echoing(t)
	w.beside(t, local, []string{"-D", local}, func(c net.Conn) {
		if _, err := c.Write(socks(t, far)); err != nil {
			t.Error(err)
		}
		// Method, then the answer for an IPv4 address.
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err != nil || answer[3] != 0 {
			t.Errorf("%v, %v", answer, err)
		}
		w.exchange(t, c)
	})
}

func throughStdio(t *testing.T, w *world) {
	back := w.fresh(t, "back")
	// The end of input ends the echo, and with it ssh.
	expect(t, w.Run("sh", "-c", `exec ssh -F "$0" -W "$1" "$2" <"$3" >"$4"`, w.config, echoing(t), w.Host.Name, w.data, back), 0)
	w.same(t, back)
}

// throughRemote has the host listen, and a server beside the laptop answer.
func throughRemote(t *testing.T, w *world) {
	remote := freeport.Address(freeport.For(t))
	w.beside(t, remote, []string{"-o", "ExitOnForwardFailure=yes", "-R", remote + ":" + echoing(t)}, func(c net.Conn) { w.exchange(t, c) })
}

// lentAgent asks the agent that ssh forwards for its keys.
func lentAgent(t *testing.T, w *world) {
	expect(t, w.Run("ssh", "-A", "-F", w.config, w.Host.Name, `test -S "$SSH_AUTH_SOCK" && ssh-add -l >/dev/null; test $? -le 1 && echo lent`), 0, "lent")
}

// jumpBack goes by the host to the host: what would be inside of that connection nobody could read.
func jumpBack(t *testing.T, w *world) {
	var port string
	for line := range bytes.Lines(must(t, os.ReadFile, filepath.Join(w.Data, "host", "sshd_config"))) {
		if n, _ := fmt.Sscanf(string(line), "Port %s", &port); n == 1 {
			break
		}
	}
	expect(t, w.Run("ssh", "-F", w.config, "-J", w.Host.Name, "ssh://root@127.0.0.1:"+port, "true"), 255, "administratively prohibited")
}

func must(t testing.TB, read func(string) ([]byte, error), path string) []byte {
	t.Helper()
	out, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// socks is a request of SOCKS5 (RFC 1928): no authentication, connect to an IPv4 address.
func socks(t testing.TB, to string) []byte {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat([]byte{5, 1, 0, 5, 1, 0, 1}, addr.IP.To4(), []byte{byte(addr.Port >> 8), byte(addr.Port)})
}
