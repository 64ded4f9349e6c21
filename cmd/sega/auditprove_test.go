package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/audit"
	"sega/broker/api"
)

// evidence is a bundle of event 8, which has details, in a file; the broker is gone.
func bundleFile(t *testing.T) (b *logBroker, r *reviewer, file string) {
	t.Helper()
	b = newLogBroker(t, 20)
	r = b.reviewer()
	file = filepath.Join(t.TempDir(), "evidence.json")
	if code := r.sega("audit", "prove", "8", "-o", file); code != 0 || r.out.Len() != 0 || !strings.Contains(r.talk.String(), b.key.VerifierKey()) {
		t.Fatalf("exit %d: %s%s", code, r.out, r.talk)
	}
	b.server.Close()
	return b, r, file
}

// bundles runs `audit verify --json` on files.
func (r *reviewer) bundles(args ...string) (int, []provenBundle) {
	r.b.t.Helper()
	code := r.sega(append([]string{"audit", "verify", "--json"}, args...)...)
	var out []provenBundle
	for line := range strings.Lines(r.out.String()) {
		var v provenBundle
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			r.b.t.Fatalf("%v: %s", err, line)
		}
		out = append(out, v)
	}
	return code, out
}

func TestProveAndVerifyOffline(t *testing.T) {
	b, r, file := bundleFile(t)
	code, got := r.bundles(file)
	if code != 0 || len(got) != 1 || !got[0].OK || got[0].Index != 8 || got[0].Size != 20 || got[0].Event.ID != b.rows[8].Columns["id"] || got[0].Details != "proven" || !got[0].Witnessed {
		t.Fatalf("exit %d: %+v %s", code, got, r.talk)
	}
	if code := r.sega("audit", "verify", file); code != 0 || !strings.Contains(r.out.String(), "proven      event 8, with exactly these bytes, is in the history of 20 events") || !strings.Contains(r.out.String(), "not proven") || !strings.Contains(r.out.String(), `{"serial":"7"}`) {
		t.Errorf("exit %d:\n%s%s", code, r.out, r.talk)
	}
	// A machine that has never heard of the broker needs the key alone.
	stranger, out, talk := testApp(t)
	keyFile := filepath.Join(t.TempDir(), "log.key")
	if err := os.WriteFile(keyFile, []byte(b.key.VerifierKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{b.key.VerifierKey(), keyFile} {
		if code := run(t.Context(), []string{"audit", "verify", "--key", key, file}, stranger); code != 0 || !strings.Contains(out.String(), "remembers no checkpoint of that size") {
			t.Errorf("exit %d: %s%s", code, out, talk)
		}
	}
	if code := run(t.Context(), []string{"audit", "verify", file}, stranger); code != exitUsage || !strings.Contains(talk.String(), "--key") {
		t.Errorf("without a key: exit %d: %s", code, talk)
	}
	if code := run(t.Context(), []string{"audit", "verify", "--key", b.key.VerifierKey(), filepath.Join(t.TempDir(), "none")}, stranger); code != 1 {
		t.Errorf("no such file: exit %d", code)
	}
}

// TestBundlesOneByOne: of several bundles each is judged, and one bad one fails the command.
func TestBundlesOneByOne(t *testing.T) {
	b, r, file := bundleFile(t)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other, err := audit.GenerateLogKey(b.key.Name())
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.json")
	for at := 0; at < len(data); at += 7 {
		changed := append([]byte(nil), data...)
		changed[at] ^= 1
		if err := os.WriteFile(bad, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		code, got := r.bundles(bad, file)
		if code != 1 || len(got) != 2 || got[0].OK || got[0].Finding == "" || got[0].What == "" || !got[1].OK {
			t.Fatalf("byte %d: exit %d: %+v", at, code, got)
		}
	}
	if code, got := r.bundles("--key", other.VerifierKey(), file); code != 1 || got[0].OK || !strings.Contains(got[0].What, "it is of the log") {
		t.Errorf("under another key: exit %d: %+v", code, got)
	}
	if code := r.sega("audit", "verify", bad); code != 1 || !strings.Contains(r.out.String(), "BAD  "+bad) {
		t.Errorf("exit %d: %s", code, r.out)
	}
}

// TestBundleOfAFork: a bundle of a history that this machine was not shown.
func TestBundleOfAFork(t *testing.T) {
	b := newLogBroker(t, 20)
	r := b.reviewer()
	if code, _ := r.verify(); code != 0 {
		t.Fatal(r.talk)
	}
	b.rewrite(3)
	victim := b.reviewer()
	file := filepath.Join(t.TempDir(), "evidence.json")
	if code := victim.sega("audit", "prove", "8", "-o", file); code != 0 {
		t.Fatal(victim.talk)
	}
	if code, got := r.bundles(file); code != 1 || got[0].OK || got[0].Finding != audit.FindingForked {
		t.Errorf("exit %d: %+v", code, got)
	}
}

// TestProveRefuses: a proof that does not prove what was asked for is not written.
func TestProveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *logBroker, p *api.Proof)
		want   string
	}{
		"changed bytes":        {func(_ *logBroker, p *api.Proof) { p.Body = []byte(strings.Replace(string(p.Body), "db1", "db2", 1)) }, "not event 8"},
		"another event":        {func(b *logBroker, p *api.Proof) { *p = b.proofOf(9) }, "it is of event 9"},
		"a forged checkpoint":  {func(_ *logBroker, p *api.Proof) { p.Checkpoint = []byte("x") }, "not a checkpoint"},
		"no proof":             {func(_ *logBroker, p *api.Proof) { p.Inclusion = nil }, "not event 8"},
		"changed details":      {func(_ *logBroker, p *api.Proof) { p.Details[0] = ' ' }, "details"},
		"details without salt": {func(_ *logBroker, p *api.Proof) { p.Salt = nil }, "salt"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLogBroker(t, 20)
			r := b.reviewer()
			b.proof = func(p *api.Proof) { c.change(b, p) }
			file := filepath.Join(t.TempDir(), "evidence.json")
			if code := r.sega("audit", "prove", "8", "-o", file); code != 1 || !strings.Contains(r.talk.String(), c.want) {
				t.Errorf("exit %d: %s", code, r.talk)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("a file was written")
			}
		})
	}
	t.Run("a checkpoint of another history", func(t *testing.T) {
		b := newLogBroker(t, 20)
		r := b.reviewer()
		if code, _ := r.verify(); code != 0 {
			t.Fatal(r.talk)
		}
		before := b.note
		b.rewrite(3)
		forked := b.proofOf(8)
		b.note = before // the headers are as they were, the bundle's checkpoint is not
		b.proof = func(p *api.Proof) { *p = forked }
		if code := r.sega("audit", "prove", "8"); code != 1 || r.out.Len() != 0 || !strings.Contains(r.talk.String(), "fork") {
			t.Errorf("exit %d: %s%s", code, r.out, r.talk)
		}
	})
}

// proofOf is the broker's proof of an event.
func (b *logBroker) proofOf(index int64) (p api.Proof) {
	proof := b.proof
	b.proof = func(q *api.Proof) { p = *q }
	b.sendProof(discard{}, b.rows[index].Columns["id"])
	b.proof = proof
	return p
}

func TestProveNames(t *testing.T) {
	b := newLogBroker(t, 20)
	r := b.reviewer()
	id := b.rows[9].Columns["id"]
	for _, name := range []string{"9", id, "evt_" + id} {
		if code := r.sega("audit", "prove", name); code != 0 {
			t.Fatalf("%s: exit %d: %s", name, code, r.talk)
		}
		bundle, err := audit.ParseBundle(r.out.Bytes())
		if err != nil || bundle.Index != 9 || bundle.Origin != b.key.Name() {
			t.Errorf("%s: %+v, %v", name, bundle, err)
		}
	}
	for _, name := range []string{audit.NewID(), "20", "x"} {
		if code := r.sega("audit", "prove", name); code != 1 || r.out.Len() != 0 {
			t.Errorf("%s: exit %d: %s", name, code, r.out)
		}
	}
	file := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := r.sega("audit", "prove", "9", "-o", file); code != 1 {
		t.Errorf("exit %d", code)
	}
	if data, _ := os.ReadFile(file); string(data) != "mine" {
		t.Error("a file was overwritten")
	}
	if code := r.sega("audit", "prove"); code != exitUsage {
		t.Errorf("exit %d", code)
	}
}
