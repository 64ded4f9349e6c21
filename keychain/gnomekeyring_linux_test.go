package keychain

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus"

	"sega/keychain/secret"
)

// gnome is a session bus of the test's own with Debian's gnome-keyring on it.
type gnome struct {
	*sessionBus
	daemon *exec.Cmd
}

const (
	keyringPassword   = "horse"
	defaultCollection = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
)

func newGnome(t *testing.T) *gnome {
	t.Helper()
	needPrograms(t, "gnome-keyring-daemon")
	return &gnome{sessionBus: newSessionBus(t)}
}

// start starts the daemon and waits until it is on the bus. With a password it makes the default
// keyring, or unlocks it.
func (g *gnome) start(password string) {
	g.t.Helper()
	args := []string{"--foreground", "--components=secrets"}
	if password != "" {
		args = append(args, "--unlock")
	}
	g.daemon = exec.Command("gnome-keyring-daemon", args...)
	g.daemon.Stdin = strings.NewReader(password)
	if err := g.daemon.Start(); err != nil {
		g.t.Fatal(err)
	}
	daemon := g.daemon
	g.t.Cleanup(func() { end(daemon) })
	g.awaitName(secretsName)
}

// started is a desktop whose default keyring is there and unlocked.
func started(t *testing.T) *gnome {
	g := newGnome(t)
	g.start(keyringPassword)
	return g
}

func (g *gnome) lock() {
	g.t.Helper()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	g.call(secretsName, secretsPath, serviceIface+"Lock", []any{[]dbus.ObjectPath{defaultCollection}}, &locked, &prompt)
}

// unlock is what a login at the desktop does, by gnome-keyring's own interface.
func (g *gnome) unlock() {
	g.t.Helper()
	c := g.connect()
	defer c.Close()
	service := c.Object(secretsName, secretsPath)
	var output dbus.Variant
	var session dbus.ObjectPath
	if err := service.Call(serviceIface+"OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&output, &session); err != nil {
		g.t.Fatal(err)
	}
	master := wireSecret{Session: session, Parameters: []byte{}, Value: []byte(keyringPassword), ContentType: "text/plain"}
	call := service.Call("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0, defaultCollection, master)
	if call.Err != nil {
		g.t.Fatal(call.Err)
	}
}

// items are those of sega.
func (g *gnome) items() []dbus.ObjectPath {
	g.t.Helper()
	var unlocked, locked []dbus.ObjectPath
	g.call(secretsName, secretsPath, serviceIface+"SearchItems", []any{map[string]string{"application": "sega"}}, &unlocked, &locked)
	return append(unlocked, locked...)
}

func (g *gnome) signal(s syscall.Signal) {
	g.t.Helper()
	if err := g.daemon.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
}

// filled is a store that has probed this desktop and holds "a".
func (g *gnome) filled() *Store {
	g.t.Helper()
	s := newStore(g.t, func(c *Config) { c.Backend = "" })
	put(g.t, s, "a", "1")
	if got := s.Describe(); got.Backend != BackendSecretService {
		g.t.Fatalf("%+v", got)
	}
	return s
}

func TestGnomeKeyring(t *testing.T) {
	g := started(t)
	s := g.filled()
	if n := len(g.items()); n != 1 {
		t.Fatalf("%d items", n)
	}
	countInProcesses(t, s.cfg.Dir, "", 2)
	wantItem(t, reopen(t, s), "n", "40")
	t.Run("locked, nobody there", func(t *testing.T) {
		g.lock()
		wantRefused(t, s, ErrUnavailable, errLocked.Error())
		g.unlock()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("locked under a process that lives", func(t *testing.T) {
		g.lock()
		wantItem(t, s, "a", "1") // it holds the key
		s.Drop()
		if _, err := s.Get("a"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("after Drop: %v", err)
		}
		g.unlock()
		wantItem(t, s, "a", "1")
	})
	t.Run("hangs", func(t *testing.T) {
		stop(g.t, g.daemon.Process.Pid)
		wantRefused(t, s, ErrUnavailable, errSilent.Error())
		g.signal(syscall.SIGCONT)
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("killed and restarted", func(t *testing.T) {
		end(g.daemon)
		wantRefused(t, s, ErrUnavailable, errAbsent.Error())
		g.start(keyringPassword)
		wantItem(t, reopen(t, s), "a", "1")
		put(t, reopen(t, s), "a", "1")
	})
	t.Run("another password", func(t *testing.T) {
		end(g.daemon)
		g.start("house")
		wantRefused(t, s, ErrUnavailable, errLocked.Error())
		g.unlock()
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("the item is gone", func(t *testing.T) {
		var prompt dbus.ObjectPath
		g.call(secretsName, g.items()[0], "org.freedesktop.Secret.Item.Delete", nil, &prompt)
		wantRefused(t, s, ErrNoKey, "was not found")
	})
}

func TestGnomeKeyringIsKilledWhileItIsAsked(t *testing.T) {
	g := started(t)
	s := g.filled()
	stop(g.t, g.daemon.Process.Pid)
	got := make(chan error, 1)
	go func() { _, err := reopen(t, s).Get("a"); got <- err }()
	g.signal(syscall.SIGKILL)
	if err := <-got; !errors.Is(err, ErrUnavailable) || !errors.Is(err, errAbsent) && !errors.Is(err, errSilent) {
		t.Errorf("got %v", err)
	}
	_ = g.daemon.Wait()
	g.start(keyringPassword)
	wantItem(t, reopen(t, s), "a", "1")
}

// The first use by many processes at once makes one item.
func TestGnomeKeyringFirstUseByMany(t *testing.T) {
	g := started(t)
	dir := filepath.Join(t.TempDir(), "sega")
	countInProcesses(t, dir, "", 4)
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wantItem(t, s, "n", "80")
	if got := s.Describe(); got.Backend != BackendSecretService || len(g.items()) != 1 {
		t.Errorf("%+v, %d items", got, len(g.items()))
	}
}

// A keyring that hangs while places are probed is passed over, and not probed again when it answers.
func TestGnomeKeyringHangsAtFirstUse(t *testing.T) {
	g := started(t)
	stop(g.t, g.daemon.Process.Pid)
	begin := time.Now()
	s := newStore(t, func(c *Config) { c.Backend = "" })
	put(t, s, "a", "1")
	if took := time.Since(begin); took > answerTime+late {
		t.Errorf("the first use took %v", took)
	}
	asked := newStore(t, func(c *Config) { c.Backend = BackendSecretService })
	if err := asked.Put("a", secret.FromString("1")); !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "SEGA_KEYRING_BACKEND") {
		t.Errorf("asked for by name: %v", err)
	}
	g.signal(syscall.SIGCONT)
	put(t, reopen(t, s), "a", "2")
	if got := reopen(t, s).Describe(); got.Backend != BackendFile {
		t.Errorf("probed anew: %+v", got)
	}
	if n := len(g.items()); n != 0 {
		t.Errorf("%d items", n)
	}
}

func TestGnomeKeyringAsks(t *testing.T) {
	type answers []answer
	for name, tc := range map[string]struct {
		fresh   bool // there is no default keyring yet
		answers answers
		want    error
		prompts int
	}{
		"unlocked":                 {answers: answers{{keyringPassword, true}}, prompts: 1},
		"unlocked at the second":   {answers: answers{{"house", true}, {keyringPassword, true}}, prompts: 2},
		"dismissed":                {answers: answers{{"", false}}, want: errDismissed, prompts: 1},
		"no prompter":              {want: errDismissed},
		"fresh, a new password":    {fresh: true, answers: answers{{keyringPassword, true}, {"", true}}, prompts: 2},
		"fresh, dismissed":         {fresh: true, answers: answers{{"", false}}, want: errDismissed, prompts: 1},
		"fresh, without a program": {fresh: true, want: errDismissed},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGnome(t)
			if tc.fresh {
				g.start("")
			} else {
				g.start(keyringPassword)
				g.lock()
			}
			var p *prompter
			if tc.answers != nil {
				p = newPrompter(t, g, tc.answers)
			}
			store := secretService{desktop: desktop{address: g.address, person: true, answer: answerTime, wait: 20 * time.Second}}
			err := keep(store, "0011223344556677", testKey())
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if p != nil && p.asked() != tc.prompts {
				t.Errorf("%d prompts, want %d", p.asked(), tc.prompts)
			}
			if n := len(g.items()); n != 1 && err == nil || n != 0 && err != nil {
				t.Errorf("%d items", n)
			}
		})
	}
}

// A prompt that nobody answers is waited for so long and no longer, and harms nothing.
func TestGnomeKeyringPromptIsGivenUp(t *testing.T) {
	g := started(t)
	s := g.filled()
	g.lock()
	p := newPrompter(t, g, nil)
	store := secretService{desktop: desktop{address: g.address, person: true, answer: answerTime, wait: 300 * time.Millisecond}}
	if _, err := store.load(headerOf(t, s).Item); !errors.Is(err, errUnanswered) {
		t.Errorf("got %v", err)
	}
	if p.asked() != 1 || p.shown() != 1 {
		t.Errorf("%d prompts, %d on the screen", p.asked(), p.shown())
	}
	g.unlock()
	wantItem(t, reopen(t, s), "a", "1")
}

// A desktop on which no keyring was made yet, and nobody who could be asked for a password.
func TestGnomeKeyringIsFresh(t *testing.T) {
	g := newGnome(t)
	g.start("")
	s := newStore(t, func(c *Config) { c.Backend = BackendSecretService })
	if err := s.Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errNoCollection) {
		t.Errorf("got %v", err)
	}
	probing := newStore(t, func(c *Config) { c.Backend = "" })
	put(t, probing, "a", "1")
	if got := probing.Describe(); got.Backend != BackendFile {
		t.Errorf("%+v", got)
	}
}
