package keychain

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kde is a session bus with Debian's kwalletd5 on it, and no screen.
type kde struct {
	*sessionBus
	daemon *exec.Cmd
}

// kdeHash is what a login at the desktop derives from the password: the wallet's key.
var kdeHash = bytes.Repeat([]byte("k"), 56)

// newKDE starts kwalletd5 as a login at the desktop does (kwallet-pam), with a wallet that is open.
func newKDE(t *testing.T, config string) *kde {
	t.Helper()
	needPrograms(t, "kwalletd5")
	k := &kde{sessionBus: newSessionBus(t)}
	for path, text := range map[string]string{".config/kwalletrc": "[Wallet]\nFirst Use=false\n" + config, ".local/share/kwalletd/kdewallet.salt": strings.Repeat("s", 56)} {
		path := filepath.Join(k.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	k.start()
	return k
}

// start gives the daemon the hash through a pipe and its environment through a socket.
func (k *kde) start() {
	k.t.Helper()
	socket := filepath.Join(k.dir, "login")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		k.t.Fatal(err)
	}
	defer l.Close()
	listening, err := l.File()
	if err != nil {
		k.t.Fatal(err)
	}
	defer listening.Close()
	hash, w, err := os.Pipe()
	if err != nil {
		k.t.Fatal(err)
	}
	defer hash.Close()
	k.daemon = exec.Command("kwalletd5", "--pam-login", "3", "4")
	k.daemon.ExtraFiles = []*os.File{hash, listening}
	env := append(os.Environ(), "QT_QPA_PLATFORM=offscreen", "LANG=C.UTF-8")
	k.daemon.Env = append(env, "PAM_KWALLET5_LOGIN="+socket)
	if err := k.daemon.Start(); err != nil {
		k.t.Fatal(err)
	}
	daemon := k.daemon
	k.t.Cleanup(func() { end(daemon) })
	_, err = w.Write(kdeHash)
	err = errors.Join(err, w.Close())
	if err == nil {
		err = tell(socket, env)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.awaitName("org.kde.kwalletd5")
}

func tell(socket string, env []string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = fmt.Fprintln(c, strings.Join(env, "\n"))
	return err
}

func (k *kde) wallet(method string, args []any, results ...any) {
	k.t.Helper()
	k.call("org.kde.kwalletd5", "/modules/kwalletd5", walletIface+method, args, results...)
}

func (k *kde) lock() {
	k.t.Helper()
	var code int32
	k.wallet("close", []any{"kdewallet", true}, &code)
}

func (k *kde) unlock() {
	k.t.Helper()
	c := k.connect()
	defer c.Close()
	if call := c.Object("org.kde.kwalletd5", "/modules/kwalletd5").Call(walletIface+"pamOpen", 0, "kdewallet", kdeHash, int32(0)); call.Err != nil {
		k.t.Fatal(call.Err)
	}
}

func TestRealKWallet(t *testing.T) {
	k := newKDE(t, "")
	s := newStore(t, func(c *Config) { c.Backend = "" })
	put(t, s, "a", "1")
	if got := s.Describe(); got.Backend != BackendKWallet {
		t.Fatalf("%+v", got)
	}
	countInProcesses(t, s.cfg.Dir, "", 2)
	wantItem(t, reopen(t, s), "n", "40")
	t.Run("closed, nobody there", func(t *testing.T) {
		k.lock()
		wantRefused(t, s, ErrUnavailable, errLocked.Error())
		k.unlock()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("hangs", func(t *testing.T) {
		stop(t, k.daemon.Process.Pid)
		wantRefused(t, s, ErrUnavailable, errSilent.Error())
		if err := k.daemon.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("killed and restarted", func(t *testing.T) {
		end(k.daemon)
		wantRefused(t, s, ErrUnavailable, errAbsent.Error())
		k.start()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the entry is gone", func(t *testing.T) {
		var handle, code int32
		k.wallet("open", []any{"kdewallet", int64(0), walletApp}, &handle)
		k.wallet("removeEntry", []any{handle, walletApp, headerOf(t, s).Item, walletApp}, &code)
		wantRefused(t, s, ErrNoKey, "was not found")
	})
}

// KWallet may ask whether a program is to have the wallet that is open.
func TestRealKWalletAsksAboutPrograms(t *testing.T) {
	k := newKDE(t, "Prompt on Open=true\n")
	for name, tc := range map[string]struct {
		person bool
		least  time.Duration
	}{"nobody there": {false, 300 * time.Millisecond}, "a person who does not answer": {true, 900 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			store := kwallet{desktop: desktop{address: k.address, person: tc.person, answer: 300 * time.Millisecond, wait: 600 * time.Millisecond}}
			err := store.save("aa", testKey())
			if took := time.Since(begin); !errors.Is(err, errSilent) || took < tc.least || took > tc.least+5*time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}
