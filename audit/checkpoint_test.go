package audit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func newKey(tb testing.TB, origin string) *LogKey {
	tb.Helper()
	key, err := GenerateLogKey(origin)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func sign(tb testing.TB, key *LogKey, tree tlog.Tree) []byte {
	tb.Helper()
	msg, err := SignCheckpoint(key.Name(), tree, key)
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

func TestCheckpoint(t *testing.T) {
	key := newKey(t, "log.corp.example/audit")
	tree := tlog.Tree{N: 12, Hash: tlog.RecordHash([]byte("x"))}
	msg := sign(t, key, tree)
	if want := "log.corp.example/audit\n12\n" + tree.Hash.String() + "\n\n— log.corp.example/audit "; !strings.HasPrefix(string(msg), want) {
		t.Errorf("note is\n%s\nwant it to begin\n%s", msg, want)
	}
	verifier, err := note.NewVerifier(key.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(msg, verifier)
	if err != nil || c != (Checkpoint{Origin: "log.corp.example/audit", Tree: tree}) {
		t.Errorf("opened %+v, %v", c, err)
	}
	if _, err := SignCheckpoint("other.example/audit", tree, key); err == nil {
		t.Error("signed for another origin")
	}
}

// signText signs any text with the log's key, as a log that does not keep to the format would.
func signText(tb testing.TB, key *LogKey, text string) []byte {
	tb.Helper()
	msg, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

func TestOpenCheckpointRefuses(t *testing.T) {
	const origin = "log.corp.example/audit"
	key := newKey(t, origin)
	root := tlog.RecordHash([]byte("x"))
	good := sign(t, key, tlog.Tree{N: 12, Hash: root})
	for name, msg := range map[string][]byte{
		"empty":            nil,
		"other key":        sign(t, newKey(t, origin), tlog.Tree{N: 12, Hash: root}),
		"other name":       sign(t, newKey(t, "evil.example/audit"), tlog.Tree{N: 12, Hash: root}),
		"size changed":     []byte(strings.Replace(string(good), "\n12\n", "\n13\n", 1)),
		"root changed":     []byte(strings.Replace(string(good), root.String(), tlog.RecordHash(nil).String(), 1)),
		"no signature":     good[:strings.Index(string(good), "—")],
		"other origin":     signText(t, key, "evil.example/audit\n12\n"+root.String()+"\n"),
		"leading zero":     signText(t, key, origin+"\n012\n"+root.String()+"\n"),
		"sign":             signText(t, key, origin+"\n+12\n"+root.String()+"\n"),
		"negative":         signText(t, key, origin+"\n-1\n"+root.String()+"\n"),
		"short root":       signText(t, key, origin+"\n12\nAAAA\n"),
		"root in base64":   signText(t, key, origin+"\n12\n"+base64.RawStdEncoding.EncodeToString(root[:])+"\n"),
		"extension":        signText(t, key, origin+"\n12\n"+root.String()+"\nmore\n"),
		"root of no event": signText(t, key, origin+"\n0\n"+root.String()+"\n"),
		"one line":         signText(t, key, origin+"\n"),
		"too long":         append([]byte(strings.Repeat("x", maxCheckpoint)), good...),
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := OpenCheckpoint(msg, key.Verifier()); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("opened %+v, %v", c, err)
			}
		})
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	key := newKey(f, "log.corp.example/audit")
	f.Add(sign(f, key, tlog.Tree{N: 12, Hash: tlog.RecordHash([]byte("x"))}), "log.corp.example/audit\n0\n"+EmptyRoot().String()+"\n")
	f.Add([]byte("\n\n— a b\n"), "log.corp.example/audit\n9223372036854775807\n"+EmptyRoot().String()+"\n")
	f.Add([]byte("x"), "\n1\n\n")
	f.Fuzz(func(t *testing.T, msg []byte, text string) {
		if c, err := OpenCheckpoint(msg, key.Verifier()); err == nil && !strings.HasPrefix(string(msg), c.Text()) {
			t.Errorf("opened %+v from %q", c, msg)
		}
		signed, err := note.Sign(&note.Note{Text: text}, key)
		if err != nil {
			return
		}
		c, err := OpenCheckpoint(signed, key.Verifier())
		if err == nil && c.Text() != text {
			t.Errorf("opened %+v from %q", c, text)
		}
	})
}

func TestLogKeyRedacted(t *testing.T) {
	key := newKey(t, "log.corp.example/audit")
	secret := string(key.Reveal())
	again, err := ParseLogKey([]byte(secret + "\n"))
	if err != nil || again.VerifierKey() != key.VerifierKey() {
		t.Fatalf("parsed %v, %v", again, err)
	}
	holder := struct{ k *LogKey }{key}
	seed := strings.SplitN(secret, "+", 5)[4] // PRIVATE+KEY+name+hash+base64, which may hold more of them
	out := fmt.Sprint(key, holder) + fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %#v %s %d", key, key, key, key, key, key, key, holder, holder, holder, holder, holder)
	b, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	out += string(b)
	raw, _ := base64.StdEncoding.DecodeString(seed)
	if strings.Contains(out, seed) || strings.Contains(out, fmt.Sprintf("%x", raw[1:])) {
		t.Errorf("the key leaks: %s", out)
	}
	for _, text := range []string{"", "PRIVATE+KEY+x", secret[:len(secret)-4], strings.Replace(secret, "PRIVATE", "PUBLIC", 1)} {
		if _, err := ParseLogKey([]byte(text)); err == nil {
			t.Errorf("parsed %d bytes", len(text))
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Error("the error quotes the key")
		}
	}
}
