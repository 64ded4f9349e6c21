//go:build linux

package keychain

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/keychain/secret"
)

// gpg is a GnuPG home of the test's own with one key, and pass beside it.
type gpg struct {
	t   *testing.T
	dir string
}

// Pinentries, which gpg-agent starts to ask a person for a passphrase.
const (
	silentPinentry = "exec sleep 600"
	typedPinentry  = `echo 'OK ready'
while read -r line; do
  case "$line" in GETPIN*) echo 'D horse' ;; esac
  echo OK
  case "$line" in BYE*) exit 0 ;; esac
done`
)

// newGPG makes the key, under a passphrase where one is given, and the password store.
func newGPG(t *testing.T, passphrase, pinentry string) *gpg {
	t.Helper()
	needPrograms(t, "pass", "gpg", "gpg-agent", "gpgconf")
	dir, err := os.MkdirTemp("", "gp") // t.TempDir may exceed a socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for k, v := range map[string]string{"HOME": dir, "GNUPGHOME": dir, "PASSWORD_STORE_DIR": filepath.Join(dir, "store"),
		"GPG_TTY": "", "DISPLAY": "", "WAYLAND_DISPLAY": "", "SSH_CONNECTION": ""} {
		t.Setenv(k, v)
	}
	g := &gpg{t: t, dir: dir}
	t.Cleanup(g.killAgent)
	script := filepath.Join(dir, "pinentry")
	g.write(script, "#!/bin/sh\n"+pinentry+"\n", 0o700)
	// the agent would measure for seconds how often to hash a passphrase
	g.write(filepath.Join(dir, "gpg-agent.conf"), "pinentry-program "+script+"\ns2k-count 65536\n", 0o600)
	g.run("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--quick-gen-key", "test@example.com", "default", "default", "never")
	g.run("pass", "init", "test@example.com")
	g.killAgent() // which knows the passphrase
	return g
}

func (g *gpg) write(path, text string, mode os.FileMode) {
	g.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gpg) run(name string, args ...string) string {
	g.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s: %v: %s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// agent is the process of gpg-agent, which it starts where there is none.
func (g *gpg) agent() int {
	g.t.Helper()
	var pid int
	out := g.run("gpg-connect-agent", "GETINFO pid", "/bye")
	if _, err := fmt.Sscanf(out[strings.LastIndex(out, "D "):], "D %d", &pid); err != nil {
		g.t.Fatalf("%q: %v", out, err)
	}
	return pid
}

// killAgent ends the agent and waits for its end: one that is about to end still answers.
func (g *gpg) killAgent() {
	g.t.Helper()
	pid := g.agent()
	g.run("gpgconf", "--kill", "gpg-agent")
	for end := time.Now().Add(20 * time.Second); ; {
		// a process that nobody has waited for has no command line any more
		if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(args) == 0 {
			return
		}
		if time.Now().After(end) {
			g.t.Fatal("gpg-agent does not end")
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the condition
	}
}

// stop stops a process, and sees to it that it is stopped.
func stop(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "T") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not stop: %s", stat)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the condition
	}
}

// entries are what sega keeps in pass.
func (g *gpg) entries() []string {
	g.t.Helper()
	entries, err := filepath.Glob(filepath.Join(g.dir, "store", "sega", "*"))
	if err != nil {
		g.t.Fatal(err)
	}
	return entries
}

func (g *gpg) filled() *Store {
	g.t.Helper()
	s := newStore(g.t, func(c *Config) { c.Backend = BackendPass })
	put(g.t, s, "a", "1")
	return s
}

func TestRealPass(t *testing.T) {
	g := newGPG(t, "", "exit 1")
	s := g.filled()
	countInProcesses(t, s.cfg.Dir, BackendPass, 1)
	wantItem(t, reopen(t, s), "n", "20")
	t.Run("the choice is remembered", func(t *testing.T) {
		again, err := Open(Config{Dir: s.cfg.Dir})
		if err != nil {
			t.Fatal(err)
		}
		wantItem(t, again, "a", "1")
	})
	t.Run("the agent is gone", func(t *testing.T) {
		g.killAgent()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the agent hangs", func(t *testing.T) {
		pid := g.agent()
		stop(t, pid)
		wantRefused(t, s, ErrUnavailable, errSilent.Error())
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the secret key is gone", func(t *testing.T) {
		keys := filepath.Join(g.dir, "private-keys-v1.d")
		if err := os.Rename(keys, keys+".away"); err != nil {
			t.Fatal(err)
		}
		g.killAgent()
		wantRefused(t, s, ErrUnavailable, "gpg: ")
		// the agent has made an empty folder
		if err := errors.Join(os.Remove(keys), os.Rename(keys+".away", keys)); err != nil {
			t.Fatal(err)
		}
		g.killAgent()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the entry is another one", func(t *testing.T) {
		entry := "sega/" + headerOf(t, s).Item
		g.run("pass", "cp", entry, "kept")
		if err := (passStore{program: program{name: "pass", patience: time.Minute}}).save(headerOf(t, s).Item, testKey()); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, s, ErrNoKey, "does not fit")
		g.run("pass", "cp", "--force", "kept", entry)
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the entry is gone", func(t *testing.T) {
		g.run("pass", "rm", "--force", "sega/"+headerOf(t, s).Item)
		wantRefused(t, s, ErrNoKey, "was not found")
	})
}

func TestRealPassFirstUseByMany(t *testing.T) {
	g := newGPG(t, "", "exit 1")
	dir := filepath.Join(t.TempDir(), "sega")
	countInProcesses(t, dir, BackendPass, 2)
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wantItem(t, s, "n", "40")
	if e := g.entries(); len(e) != 1 {
		t.Errorf("%d entries", len(e))
	}
}

func TestRealPassWithoutAStore(t *testing.T) {
	g := newGPG(t, "", "exit 1")
	t.Setenv("PASSWORD_STORE_DIR", filepath.Join(g.dir, "none"))
	s := newStore(t, func(c *Config) { c.Backend = BackendPass })
	if err := s.Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "pass init") {
		t.Errorf("got %v", err)
	}
}

// gpg wants a passphrase: a person who is there types it, and where nobody is, nothing hangs.
func TestRealPassAsks(t *testing.T) {
	for name, tc := range map[string]struct {
		pinentry string
		want     string // in the error, "" where there is none
	}{
		"typed":                     {typedPinentry, ""},
		"nobody there":              {"exit 1", "gpg: "},
		"a pinentry of the console": {"exec pinentry-curses \"$@\"", "gpg: "},
		"a dialog that stays":       {silentPinentry, errSilent.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGPG(t, "horse", tc.pinentry)
			begin := time.Now()
			err := keep(newPass(), "0011223344556677", testKey())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if took := time.Since(begin); took > answerTime+late {
				t.Errorf("took %v", took)
			}
			if left, err := exec.Command("pgrep", "-f", "gpg.*"+filepath.Join(g.dir, "store")).Output(); err == nil {
				t.Errorf("a process of gpg still waits: %s", left)
			}
		})
	}
}

// Whoever only looks asks nobody: gpg cancels, and the pinentry is never started.
func TestRealPassQuiet(t *testing.T) {
	g := newGPG(t, "horse", typedPinentry)
	if err := keep(newPass(), "0011223344556677", testKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := newPass().(asker).quiet().load("0011223344556677"); err != nil {
		t.Errorf("while gpg-agent knows the passphrase: %v", err)
	}
	g.killAgent()
	asked := filepath.Join(g.dir, "asked")
	g.write(filepath.Join(g.dir, "pinentry"), "#!/bin/sh\ntouch "+asked+"\n"+typedPinentry+"\n", 0o700)
	begin := time.Now()
	_, err := newPass().(asker).quiet().load("0011223344556677")
	if err == nil || !strings.Contains(err.Error(), "gpg: ") || time.Since(begin) > answerTime+late {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
	if _, err := os.Stat(asked); err == nil {
		t.Error("somebody was asked")
	}
	if _, err := newPass().load("0011223344556677"); err != nil {
		t.Errorf("with somebody there: %v", err)
	}
	if _, err := os.Stat(asked); err != nil {
		t.Errorf("nobody was asked: the test shows nothing: %v", err)
	}
}
