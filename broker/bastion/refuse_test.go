package bastion

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// TestStrangerMakesNoKindsOfRefusals shows certificates of ever new CAs, whose fingerprints once were
// part of the reason: one event at once, one with the number of the rest.
func TestStrangerMakesNoKindsOfRefusals(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, func(c *Config) { c.RefuseWindow = time.Hour })
	for range 12 {
		bad := forged(t, f.credential(t), newSigner(t), func(*ssh.Certificate) {})
		if _, err := w.dial("ada", bad); err == nil {
			t.Fatal("got in")
		}
	}
	if first := f.only(t, kindRefuse); first.Reason != sshca.ErrUnknownCA.Error() || !strings.Contains(string(first.Details), "SHA256:") {
		t.Errorf("reported %+v", first)
	}
	if err := w.stop(); err != nil { // closes the window
		t.Fatal(err)
	}
	var d refusal
	got := f.find(kindRefuse)
	decode(t, got[len(got)-1].Details, &d)
	if len(got) != 2 || d.Count != 11 {
		t.Errorf("%d events, the last counts %d", len(got), d.Count)
	}
}

// namedKey is a key of a type that its holder has made up.
type namedKey struct {
	ssh.PublicKey
	name string
}

func (k namedKey) Type() string { return k.name }

type namedSigner struct {
	ssh.Signer
	name string
}

func (s namedSigner) PublicKey() ssh.PublicKey { return namedKey{s.Signer.PublicKey(), s.name} }

func TestStrangerWritesNoReason(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	const words = "alice-was-let-in-by-sam@example.com"
	if _, err := w.dial("ada", namedSigner{newSigner(t), words + strings.Repeat("x", 1000)}); err == nil {
		t.Fatal("got in")
	}
	r := f.only(t, kindRefuse)
	var d refusal
	decode(t, r.Details, &d)
	if r.Reason != reasonUnreadable || len(d.Error) > maxRefusalText+16 {
		t.Errorf("reported %+v, with %d bytes of error", r, len(d.Error))
	}
}

func TestReasonsAreFixed(t *testing.T) {
	for _, err := range []error{sshca.ErrExpired, sshca.ErrUnknownCA, sshca.ErrKeyID, errOtherCert} {
		if got := reasonOf(refusedError{fmt.Errorf("%w: words of a stranger's", err)}); got != err.Error() {
			t.Errorf("%v: %q", err, got)
		}
	}
	if got := reasonOf(errors.New("words of a stranger's")); got != reasonOther {
		t.Errorf("an unknown error: %q", got)
	}
}

// newRefusals returns refusals whose events stay in their queue.
func newRefusals(t *testing.T, most int) *refusals {
	return &refusals{queue: newReports(most, newFakeControl(t), discardLog()), now: time.Now, window: time.Hour, seen: map[netip.Prefix]*knocker{}}
}

// reported lists what waits as "source reason count", sorted.
func (r *refusals) reported(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, item := range r.queue.batch() {
		var d refusal
		decode(t, item.report.Details, &d)
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %d", item.report.Source, item.report.Reason, d.Count)))
	}
	slices.Sort(out)
	return out
}

func TestRefusalsOfASourceAreBounded(t *testing.T) {
	r := newRefusals(t, 1000)
	addr := netip.MustParseAddr("2001:db8::1")
	for i := range 9 {
		r.note(addr, fmt.Sprint("reason ", i), refusal{})
		r.note(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d:2", i)), "reason 0", refusal{}) // the same household
	}
	r.note(netip.MustParseAddr("2001:db8:0:1::1"), "reason 0", refusal{})
	r.closeWindow()
	want := []string{"2001:db8:0:1::1 reason 0 1", "2001:db8::1 " + reasonMore + " 4", "2001:db8::1 reason 0 1", "2001:db8::1 reason 0 9",
		"2001:db8::1 reason 1 1", "2001:db8::1 reason 2 1", "2001:db8::1 reason 3 1", "2001:db8::1 reason 4 1"}
	if diff := cmp.Diff(want, r.reported(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusalsOfManySourcesAreBounded(t *testing.T) {
	r := newRefusals(t, 3)
	for i := range refuseSources + 10 {
		r.note(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "reason", refusal{})
	}
	if got := r.reported(t); len(got) != 3 {
		t.Errorf("%d reports wait where three may", len(got))
	}
	r.queue.settle(r.queue.batch(), nil)
	r.closeWindow()
	if diff := cmp.Diff([]string{fmt.Sprint(reasonRest, " ", refuseSources+10-3)}, r.reported(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefusalsHoldUpNothing has a broker that takes no refusals: the ends of sessions arrive, and no
// stranger fills the disk.
func TestRefusalsHoldUpNothing(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	f.onReport = func(r api.Report) error {
		if r.Kind == kindRefuse {
			return errFakeDown
		}
		return nil
	}
	w := start(t, f)
	bad := forged(t, f.credential(t), newSigner(t), func(*ssh.Certificate) {})
	if _, err := w.dial("ada", bad); err == nil {
		t.Fatal("got in")
	}
	eventually(t, "a refusal that waits", func() bool { return len(w.b.refusals.queue.batch()) == 1 })
	c := w.direct(t)
	if err := newSession(t, c).Run("true"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	f.only(t, kindEnd)
	eventually(t, "nothing that waits on disk", func() bool {
		left, err := os.ReadDir(filepath.Join(w.dir, "data", "reports"))
		return err == nil && len(left) == 0
	})
	if len(w.b.refusals.queue.batch()) != 1 {
		t.Error("the refusal was given up")
	}
}
