package keychain

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus"

	"sega/keychain/secret"
)

// fakeBus is a session bus with a Secret Service and a KWallet on it, as far as sega calls them.
type fakeBus struct {
	address string
	silent  string // the member that gets no answer
	noAlias bool   // there is no default collection
	locked  bool   // needs a prompt to unlock
	dismiss bool   // the person dismisses the prompt
	off     bool   // KWallet is switched off, kwalletd6 not there

	mu      sync.Mutex
	items   map[string][]byte
	calls   []string
	prompts int
}

func newFakeBus(t *testing.T, change func(*fakeBus)) *fakeBus {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // t.TempDir may exceed a socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "b")
	b := &fakeBus{address: "unix:path=" + socket, items: map[string][]byte{}}
	if change != nil {
		change(b)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); b.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return b
}

// serve speaks the authentication of the D-Bus specification, and then messages.
func (b *fakeBus) serve(c net.Conn) {
	r := bufio.NewReader(c)
	if _, err := r.ReadByte(); err != nil || b.silent == "AUTH" {
		_, _ = r.ReadString(0)
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "AUTH"):
			fmt.Fprint(c, "REJECTED EXTERNAL\r\n")
		case strings.HasPrefix(line, "BEGIN"):
			b.messages(c, r)
			return
		}
	}
}

func (b *fakeBus) messages(c net.Conn, r *bufio.Reader) {
	for {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		member, _ := m.Headers[dbus.FieldMember].Value().(string)
		path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		b.mu.Lock()
		b.calls = append(b.calls, member)
		b.mu.Unlock()
		if member == b.silent {
			continue
		}
		body, err := b.answer(member, path, m.Body)
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(m.Serial())}, Body: body}
		if err != nil {
			reply.Type, reply.Body = dbus.TypeError, []any{err.Error()}
			reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.example.Error")
		}
		b.send(c, reply)
		if member == "Prompt" {
			b.send(c, b.completed(path))
		}
	}
}

func (b *fakeBus) completed(path dbus.ObjectPath) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeSignal, Body: []any{b.dismiss, dbus.MakeVariant("")}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(promptIface), dbus.FieldMember: dbus.MakeVariant("Completed")}}
}

func (b *fakeBus) send(c net.Conn, m *dbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	_ = m.EncodeTo(c, binary.LittleEndian)
}

// answer is what the services do.
func (b *fakeBus) answer(member string, path dbus.ObjectPath, args []any) ([]any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	prompt := noObject
	if b.locked {
		prompt = "/prompt/1"
	}
	switch member {
	case "Hello":
		return []any{":1.7"}, nil
	case "AddMatch":
		return nil, nil
	case "OpenSession":
		return []any{dbus.MakeVariant(""), dbus.ObjectPath("/session/1")}, nil
	case "ReadAlias":
		if b.noAlias {
			return []any{noObject}, nil
		}
		return []any{dbus.ObjectPath("/collection/login")}, nil
	case "Unlock":
		return []any{args[0], prompt}, nil
	case "Prompt":
		b.prompts++
		b.locked = b.dismiss
		return nil, nil
	case "SearchItems":
		return b.search(args[0].(map[string]string)["item"]), nil
	case "CreateItem":
		return b.create(args), nil
	case "GetSecret":
		v := b.items[string(path)]
		return []any{wireSecret{Session: "/session/1", Parameters: []byte{}, Value: v, ContentType: "text/plain"}}, nil
	}
	return b.wallet(member, path, args)
}

func (b *fakeBus) search(item string) []any {
	found, none := []dbus.ObjectPath{}, []dbus.ObjectPath{}
	if _, ok := b.items["/item/"+item]; ok {
		found = append(found, dbus.ObjectPath("/item/"+item))
	}
	if b.locked {
		return []any{none, found}
	}
	return []any{found, none}
}

func (b *fakeBus) create(args []any) []any {
	attrs := args[0].(map[string]dbus.Variant)["org.freedesktop.Secret.Item.Attributes"].Value().(map[string]string)
	path := "/item/" + attrs["item"]
	b.items[path] = args[1].([]any)[2].([]byte)
	return []any{dbus.ObjectPath(path), noObject}
}

func (b *fakeBus) wallet(member string, path dbus.ObjectPath, args []any) ([]any, error) {
	if path != "/modules/kwalletd5" {
		return nil, errors.New("no such service")
	}
	switch member {
	case "isEnabled":
		return []any{!b.off}, nil
	case "networkWallet":
		return []any{"kdewallet"}, nil
	case "isOpen":
		return []any{!b.locked}, nil
	case "open":
		if b.dismiss {
			return []any{int32(-1)}, nil
		}
		return []any{int32(9)}, nil
	case "writePassword":
		b.items[args[2].(string)] = []byte(args[3].(string))
		return []any{int32(0)}, nil
	case "readPassword":
		return []any{string(b.items[args[2].(string)])}, nil
	}
	return nil, errors.New("no such method")
}

func (b *fakeBus) desktop(person bool) desktop {
	return desktop{address: b.address, person: person, answer: 300 * time.Millisecond, wait: 500 * time.Millisecond}
}

func testKey() secret.Secret { return secret.FromString(strings.Repeat("k", keySize)) }

// stores are the two stores of a Linux desktop on one bus.
func (b *fakeBus) stores(person bool) map[string]keyStore {
	return map[string]keyStore{"secret-service": secretService{desktop: b.desktop(person)}, "kwallet": kwallet{desktop: b.desktop(person)}}
}

func TestDesktopStores(t *testing.T) {
	for name, store := range newFakeBus(t, nil).stores(false) {
		t.Run(name, func(t *testing.T) {
			if _, err := store.load("0011223344556677"); !errors.Is(err, errNoItem) {
				t.Errorf("before: %v", err)
			}
			if err := keep(store, "0011223344556677", testKey()); err != nil {
				t.Error(err)
			}
			if _, err := store.load("ffff223344556677"); !errors.Is(err, errNoItem) {
				t.Errorf("another item: %v", err)
			}
		})
	}
}

func TestLockedDesktopStores(t *testing.T) {
	for name, tc := range map[string]struct {
		person, dismiss, ok bool
	}{"unlocked by the person": {true, false, true}, "dismissed": {true, true, false}, "nobody there": {false, false, false}} {
		for _, kind := range []string{"secret-service", "kwallet"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				b := newFakeBus(t, func(b *fakeBus) {
					b.locked, b.dismiss = true, tc.dismiss
					b.items["/item/aa"], b.items["aa"] = []byte(formatKey(testKey())), []byte(formatKey(testKey()))
				})
				store := b.stores(tc.person)[kind]
				got, err := store.load("aa")
				if (err == nil) != tc.ok || tc.ok && !got.Equal(testKey()) {
					t.Errorf("load: %v", err)
				}
				if !tc.person && !errors.Is(err, errLocked) {
					t.Errorf("load: %v", err)
				}
				b.mu.Lock()
				b.locked = true
				b.mu.Unlock()
				if err := store.save("bb", testKey()); (err == nil) != tc.ok {
					t.Errorf("save: %v", err)
				}
				if !tc.person && b.prompts != 0 {
					t.Error("a prompt appeared where nobody sees it")
				}
			})
		}
	}
}

// A bus that stops answering at any point is given up within its time, and never waited for.
func TestSilentBus(t *testing.T) {
	for kind, members := range map[string][]string{
		"secret-service": {"AUTH", "Hello", "OpenSession", "ReadAlias", "Unlock", "AddMatch", "Prompt", "CreateItem"},
		"kwallet":        {"AUTH", "Hello", "isEnabled", "networkWallet", "isOpen", "open", "writePassword"},
	} {
		for _, member := range members {
			t.Run(kind+" "+member, func(t *testing.T) {
				t.Parallel()
				b := newFakeBus(t, func(b *fakeBus) { b.silent, b.locked = member, member == "AddMatch" || member == "Prompt" })
				done := make(chan error, 1)
				go func() { done <- b.stores(true)[kind].save("aa", testKey()) }()
				select {
				case err := <-done:
					if !errors.Is(err, errSilent) {
						t.Errorf("got %v", err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("hangs")
				}
			})
		}
	}
}

func TestProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		bus  func(*fakeBus)
		want string
	}{
		"secret service":       {nil, BackendSecretService},
		"kwallet":              {func(b *fakeBus) { b.noAlias = true }, BackendKWallet},
		"locked, nobody there": {func(b *fakeBus) { b.locked = true }, BackendFile},
		"neither":              {func(b *fakeBus) { b.noAlias, b.off = true, true }, BackendFile},
		"no bus":               {func(b *fakeBus) { b.silent = "no bus" }, BackendFile},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBus(t, tc.bus)
			address := b.address
			if b.silent == "no bus" {
				address = "unix:path=/nonexistent"
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
			t.Setenv("DISPLAY", "")
			t.Setenv("WAYLAND_DISPLAY", "")
			s := newStore(t, func(c *Config) { c.Backend = "" })
			put(t, s, "a", "1")
			if got := s.Describe(); got.Backend != tc.want {
				t.Fatalf("%+v", got)
			}
			again := reopen(t, s)
			wantItem(t, again, "a", "1")
			if tc.want == BackendFile {
				return
			}
			b.mu.Lock()
			clear(b.items) // as on another machine, to which the file was copied
			b.mu.Unlock()
			if _, err := reopen(t, s).Get("a"); !errors.Is(err, ErrNoKey) {
				t.Errorf("without the key: %v", err)
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
			if err := reopen(t, s).Put("a", secret.FromString("2")); !errors.Is(err, ErrUnavailable) {
				t.Errorf("without the bus: %v", err)
			}
			if got := s.Describe(); got.Backend != tc.want {
				t.Errorf("the choice was made anew: %+v", got)
			}
		})
	}
}

// What merely opens the store asks no bus, so that it costs a warm call nothing.
func TestOpenTouchesNoBus(t *testing.T) {
	b := newFakeBus(t, nil)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", b.address)
	s := newStore(t, func(c *Config) { c.Backend = "" })
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	put(t, s, "a", "1")
	b.mu.Lock()
	b.calls = nil
	b.mu.Unlock()
	again := reopen(t, s)
	again.Describe()
	b.mu.Lock()
	calls := len(b.calls)
	b.mu.Unlock()
	if calls != 0 {
		t.Errorf("%d calls on the bus", calls)
	}
	for range 3 {
		wantItem(t, again, "a", "1")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := "[Hello OpenSession SearchItems GetSecret]"; fmt.Sprint(b.calls) != want {
		t.Errorf("calls %v, want %s once", b.calls, want)
	}
}

// A program with this package in it starts, and uses a key file, beside a bus that takes
// connections and says nothing. One that links 99designs/keyring never reaches main there.
func TestProgramStartsBesideASilentBus(t *testing.T) {
	b := newFakeBus(t, func(b *fakeBus) { b.silent = "AUTH" })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "KEYCHAIN_TEST_DIR="+filepath.Join(t.TempDir(), "sega"), "DBUS_SESSION_BUS_ADDRESS="+b.address)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestThisDesktop(t *testing.T) {
	run := t.TempDir()
	for name, tc := range map[string]struct {
		env     map[string]string
		address string
		person  bool
	}{
		"address":    {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "DISPLAY": ":0"}, "unix:path=/x", true},
		"wayland":    {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "WAYLAND_DISPLAY": "w"}, "unix:path=/x", true},
		"over SSH":   {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "DISPLAY": ":0", "SSH_CONNECTION": "1"}, "unix:path=/x", false},
		"autolaunch": {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "autolaunch:"}, "", false},
		"nothing":    {nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range []string{"DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"} {
				t.Setenv(k, tc.env[k])
			}
			t.Setenv("XDG_RUNTIME_DIR", run)
			if d := thisDesktop(); d.address != tc.address || d.person != tc.person {
				t.Errorf("%+v", d)
			}
		})
	}
}

func FuzzSocketPath(f *testing.F) {
	f.Add("unix:path=/run/user/1/bus,guid=0")
	f.Add("tcp:host=x;unix:abstract=/tmp/dbus-x")
	f.Add("unix:path=%2Frun%zz")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := socketPath(s); (err == nil) != (p != "") {
			t.Fatalf("%q, %v", p, err)
		}
	})
}
