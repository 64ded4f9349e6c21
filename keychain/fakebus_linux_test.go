package keychain

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus"
)

// fakeBus is a session bus with a Secret Service and a KWallet on it, as far as sega calls them.
type fakeBus struct {
	address string
	silent  string // the member that gets no answer
	noAlias bool   // there is no default collection
	locked  bool   // needs a prompt to unlock
	dismiss bool   // the person dismisses the prompt
	off     bool   // KWallet is switched off
	daemon  dbus.ObjectPath

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
	b := &fakeBus{address: "unix:path=" + socket, items: map[string][]byte{}, daemon: "/modules/kwalletd5"}
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
			if errors.Is(err, errAbsent) {
				reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(busUnknown)
			}
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
	if path != b.daemon {
		return nil, errAbsent
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
