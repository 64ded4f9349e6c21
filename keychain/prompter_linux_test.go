package keychain

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus"
)

// answer is what the person types into a dialog, or that it is closed.
type answer struct {
	password string
	ok       bool
}

// prompter plays the desktop's program that shows gnome-keyring's dialogs: the bus name
// org.gnome.keyring.SystemPrompter of gcr. One goroutine does all, because gnome-keyring wants the reply to
// BeginPrompting before the call of PromptReady.
type prompter struct {
	conn     *dbus.Conn
	answers  []answer
	exchange *exchange

	mu      sync.Mutex
	prompts int // dialogs shown in all
	open    int // dialogs on the screen now
}

const prompterIface = "org.gnome.keyring.internal.Prompter"

// newPrompter answers the first dialogs, and leaves further ones open.
func newPrompter(t *testing.T, g *gnome, answers []answer) *prompter {
	t.Helper()
	p := &prompter{conn: g.connect(), answers: answers}
	if got, err := p.conn.RequestName("org.gnome.keyring.SystemPrompter", dbus.NameFlagDoNotQueue); err != nil || got != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(got, err)
	}
	calls := make(chan *dbus.Message, 64)
	p.conn.Eavesdrop(calls)
	var wg sync.WaitGroup
	wg.Go(func() {
		for m := range calls {
			if m.Type == dbus.TypeMethodCall {
				p.serve(m)
			}
		}
	})
	t.Cleanup(func() {
		p.conn.Eavesdrop(nil)
		close(calls)
		wg.Wait()
		_ = p.conn.Close()
	})
	return p
}

func (p *prompter) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.prompts
}

func (p *prompter) shown() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// serve replies to a call and then goes on as gcr's prompter does.
func (p *prompter) serve(m *dbus.Message) {
	p.conn.Send(&dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: m.Headers[dbus.FieldSender], dbus.FieldReplySerial: dbus.MakeVariant(m.Serial())}}, nil)
	client, _ := m.Headers[dbus.FieldSender].Value().(string)
	callback := p.conn.Object(client, m.Body[0].(dbus.ObjectPath))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Headers[dbus.FieldMember].Value() {
	case "BeginPrompting":
		p.exchange = newExchange()
		ready(callback, "", p.exchange.text(nil))
	case "PerformPrompt":
		p.prompts++
		p.exchange.receive(m.Body[3].(string))
		p.perform(callback, m.Body[1] == "password")
	case "StopPrompting":
		p.open = 0
		callback.Go(prompterIface+".Callback.PromptDone", dbus.FlagNoReplyExpected, nil)
	}
}

func (p *prompter) perform(callback dbus.BusObject, password bool) {
	if len(p.answers) == 0 {
		p.open++
		return
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	switch {
	case !a.ok:
		ready(callback, "no", p.exchange.text(nil))
	case password:
		ready(callback, "yes", p.exchange.text([]byte(a.password)))
	default:
		ready(callback, "yes", p.exchange.text(nil))
	}
}

func ready(callback dbus.BusObject, reply, text string) {
	callback.Go(prompterIface+".Callback.PromptReady", dbus.FlagNoReplyExpected, nil, reply, map[string]dbus.Variant{}, text)
}

// exchange is gcr's protocol sx-aes-1, by which a password travels: Diffie-Hellman in the group of 1536 bits
// (RFC 3526, section 2), HKDF with SHA-256, AES-128 in CBC with the padding of PKCS #7.
type exchange struct {
	private, public, prime *big.Int
	key                    []byte
}

const prime1536 = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
	"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
	"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
	"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF"

func newExchange() *exchange {
	prime, _ := new(big.Int).SetString(prime1536, 16)
	raw := make([]byte, 64)
	rand.Read(raw)
	e := &exchange{prime: prime, private: new(big.Int).SetBytes(raw)}
	e.public = new(big.Int).Exp(big.NewInt(2), e.private, prime)
	return e
}

// receive takes the other side's public value.
func (e *exchange) receive(text string) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "public=")
		public, err := base64.StdEncoding.DecodeString(value)
		if !ok || err != nil {
			continue
		}
		shared := new(big.Int).Exp(new(big.Int).SetBytes(public), e.private, e.prime)
		if e.key, err = hkdf.Key(sha256.New, shared.FillBytes(make([]byte, 192)), nil, "", 16); err != nil {
			panic(err)
		}
	}
}

// text is this side's message, with a secret where there is one.
func (e *exchange) text(secret []byte) string {
	b64 := base64.StdEncoding.EncodeToString
	out := fmt.Sprintf("[sx-aes-1]\npublic=%s\n", b64(e.public.Bytes()))
	if secret == nil {
		return out
	}
	block, err := aes.NewCipher(e.key)
	if err != nil {
		panic(err)
	}
	pad := aes.BlockSize - len(secret)%aes.BlockSize
	padded := append(bytes.Clone(secret), bytes.Repeat([]byte{byte(pad)}, pad)...)
	iv := make([]byte, aes.BlockSize)
	rand.Read(iv)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return out + fmt.Sprintf("secret=%s\niv=%s\n", b64(padded), b64(iv))
}
