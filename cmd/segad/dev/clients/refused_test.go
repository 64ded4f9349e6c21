//go:build linux

package clients

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
)

func forwardRows() []row {
	return []row{
		{client: "ssh", use: "-L, off", run: forwardLocal, commands: []string{"exec sleep"}, forwards: []string{"denied direct-tcpip"}},
		{client: "ssh", use: "-D, off", more: true, run: forwardDynamic, commands: []string{"exec sleep"}, forwards: []string{"denied direct-tcpip"}},
		{client: "ssh", use: "-R, off", run: forwardRemote, forwards: []string{"denied tcpip-forward"}, commands: []string{"exec echo"}},
		{client: "ssh", use: "-W, off", more: true, run: forwardStdio, forwards: []string{"denied direct-tcpip"}},
		{client: "ssh", use: "-J through the host, off", more: true, run: jumpOn, forwards: []string{"denied direct-tcpip"}},
	}
}

func refusedRows() []row {
	return []row{
		{client: "mosh", use: "its own way to the host", needs: []string{"mosh"}, run: moshDirect, refused: true},
		{client: "dbclient", use: "knows no certificates", needs: []string{"dbclient", "dropbearkey"}, run: dropbear, refused: true},
	}
}

// serving starts a server that hands each connection to handle, which closes it, and returns its address.
func serving(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// listening starts a server that nobody may reach, and returns its address. What reaches it fails the test.
func listening(t testing.TB) string {
	t.Helper()
	return serving(t, func(c net.Conn) {
		t.Errorf("somebody has come through: %s", c.RemoteAddr())
		_ = c.Close()
	})
}

// beside runs ssh with a forward while f talks to its local end, and returns what ssh has said.
func (w *world) beside(t testing.TB, local string, forward []string, f func(net.Conn)) devtest.Result {
	t.Helper()
	mark := w.mark(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.Command(ctx, "ssh", append(append([]string{"-F", w.config}, forward...), w.Host.Name, "sleep 600")...)
	errs, err := os.CreateTemp(w.dir, "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errs.Close() }()
	c.Stderr = errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "ssh does not listen", func() error {
		conn, err := net.Dial("tcp", local)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		f(conn)
		return nil
	})
	// The program has begun before ssh is stopped.
	devtest.Eventually(t, patience, "the program does not begin", func() error {
		if len(w.reviewer.Events("--after", mark, "--kind", "session.command")) == 0 {
			return errNotYet
		}
		return nil
	})
	cancel()
	_ = c.Wait() // killed
	said, err := os.ReadFile(errs.Name())
	if err != nil {
		t.Fatal(err)
	}
	return devtest.Result{Err: string(said)}
}

// closedAtOnce wants the end of what was refused, and not a byte.
func closedAtOnce(t testing.TB, c net.Conn) {
	if got, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func forwardLocal(t *testing.T, w *world) {
	local := freeport.Address(freeport.For(t))
	r := w.beside(t, local, []string{"-L", local + ":" + listening(t)}, func(c net.Conn) { closedAtOnce(t, c) })
	expect(t, r, 0, "open failed: administratively prohibited")
}

func forwardDynamic(t *testing.T, w *world) {
	local, secret := freeport.Address(freeport.For(t)), listening(t)
	r := w.beside(t, local, []string{"-D", local}, func(c net.Conn) {
		if _, err := c.Write(socks(t, secret)); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(c)
		// OpenSSH answers the request before it asks for the channel (channels.c): success, then the end.
		if len(got) > 12 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q, %v", got, err)
		}
	})
	expect(t, r, 0, "open failed: administratively prohibited")
}

func forwardRemote(t *testing.T, w *world) {
	r := expect(t, w.Run("ssh", "-F", w.config, "-R", "0:"+listening(t), w.Host.Name, "echo went on"), 0, "remote port forwarding failed")
	if r.Out != "went on\n" {
		t.Errorf("%q", r.Out)
	}
	expect(t, w.Run("ssh", "-F", w.config, "-o", "ExitOnForwardFailure=yes", "-R", "0:"+listening(t), w.Host.Name, "echo went on"), 255, "remote port forwarding failed")
}

func forwardStdio(t *testing.T, w *world) {
	expect(t, w.Run("ssh", "-F", w.config, "-W", listening(t), w.Host.Name), 255, "administratively prohibited", "stdio forwarding failed")
}

// jumpOn goes on from the host to a third one, which would be out of the recording.
func jumpOn(t *testing.T, w *world) {
	expect(t, w.Run("ssh", "-F", w.config, "-J", w.Host.Name, "ssh://root@"+listening(t), "true"), 255, "administratively prohibited")
}

// withoutMosh forbids what mosh asks the host to start. It keeps nobody from starting it in a shell: that the host's UDP ports
// are closed to laptops is the network's to hold.
const withoutMosh = `
@id("no-mosh")
forbid (principal, action == Action::"connect", resource is Host) when { context.command like "*mosh-server*" };
`

// moshDirect: mosh goes to the host's own address, past every jump, and finds none.
func moshDirect(t *testing.T, w *world) { w.mosh(t, "Did not find remote IP address") }

// moshForbidden asks the host itself for its address, through the bastion.
func moshForbidden(t *testing.T, w *world) {
	w.mosh(t, `forbidden by policy "no-mosh"`, "--experimental-remote-ip=remote")
}

// mosh wants an end, soon, with a message, and nothing left running.
func (w *world) mosh(t *testing.T, says string, more ...string) {
	t.Helper()
	mark, from := filepath.Base(w.dir)+"-mark", time.Now()
	argv := append([]string{"LC_ALL=C.UTF-8", "TERM=xterm", "mosh", "--ssh=ssh -F " + w.config}, more...)
	expect(t, w.Run("env", append(argv, w.Host.Name, "echo", mark)...), 10, says)
	if took := time.Since(from); took > patience {
		t.Errorf("it took %v", took)
	}
	if left := w.Run("pgrep", "-af", mark); left.Code == 0 {
		t.Errorf("left running: %s", left.Out)
	}
}

func dropbear(t *testing.T, w *world) {
	id := w.fresh(t, "id")
	expect(t, w.Run("dropbearkey", "-t", "ed25519", "-f", id), 0)
	expect(t, w.Run("env", "HOME="+w.dir, "dbclient", "-y", "-i", id, "-p", w.port, w.Host.Login+"%"+w.Host.Name+"@"+w.addr, "true"), 1, "No matching algo")
}
