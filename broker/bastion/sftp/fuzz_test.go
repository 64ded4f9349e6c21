package sftp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzObserver: both directions in any interleaving and any chunks. What goes on is what came but for
// the packets that were refused, everything is recorded or left out, however it is chunked the same
// is said of it, and what is held stays within its bounds.
func FuzzObserver(f *testing.F) {
	seeds, err := filepath.Glob("testdata/sessions/*")
	if err != nil || len(seeds) < len(sessions) {
		f.Fatalf("%d transcripts of real sessions: run go test -update", len(seeds))
	}
	for _, name := range seeds {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(0), uint16(0))
		f.Add(b, uint8(1), uint16(1))
		f.Add(b, uint8(2), uint16(100))
	}
	f.Fuzz(func(t *testing.T, all []byte, config uint8, cut uint16) {
		c := Config{ReadOnly: config&1 != 0, Content: config&2 != 0}
		whole, parts := play(t, c, all, 0), play(t, c, all, 1+int(cut))
		if diff := cmp.Diff(whole.ops, parts.ops); diff != "" {
			t.Errorf("operations hang on chunks (-whole +parts):\n%s", diff)
		}
		if diff := cmp.Diff(whole.err, parts.err); diff != "" {
			t.Errorf("errors hang on chunks (-whole +parts):\n%s", diff)
		}
		if !bytes.Equal(whole.toHost, parts.toHost) || !bytes.Equal(whole.toPerson, parts.toPerson) || !bytes.Equal(whole.replies, parts.replies) || whole.left != parts.left && whole.err == nil {
			t.Error("what goes on hangs on chunks")
		}
	})
}

// play shows a transcript to a new observer, up to its first error.
func play(t *testing.T, c Config, all []byte, cut int) *world {
	w := &world{t: t, o: New(c), cut: cut}
	var came [2][]byte
	each(all, func(side byte, chunk []byte) {
		if w.err != nil || side == 0 && len(w.o.requests) > maxRequests/2 {
			return // the client would wait
		}
		came[side] = append(came[side], chunk...)
		[]func(...[]byte){w.client, w.host}[side](chunk)
		o := w.o
		if len(o.requests) > maxRequests || len(o.handles) > maxFiles || o.waiting > maxWaiting || len(o.client.framer.held) > maxPacket+4 || len(o.host.framer.held) > maxPacket+4 {
			t.Fatal("more is held than may be")
		}
	})
	w.o.Over()
	client, host, ops := w.o.End()
	w.ops = append(w.ops, ops...)
	recorded := len(w.recorded[0]) + len(w.recorded[1]) + w.left + len(client) + len(host)
	if came := len(came[0]) + len(came[1]); w.err == nil && recorded != came {
		t.Errorf("%d bytes are recorded or left out, of %d", recorded, came)
	}
	if c.Content && w.err == nil {
		if !bytes.Equal(came[0], append(w.recorded[0], client...)) || !bytes.Equal(came[1], append(w.recorded[1], host...)) {
			t.Error("the recording has other bytes than came")
		}
	}
	if !c.Content && len(w.toPerson) > 0 && !bytes.HasPrefix(came[1], w.toPerson) {
		t.Error("the person gets other bytes than came")
	}
	return w
}
