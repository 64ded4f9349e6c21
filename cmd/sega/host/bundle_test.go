//go:build linux

package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
	"sega/sshca/krl"
	"sega/sshca/sshtest"
)

const session = "ssh_abcdefghijkmnpqrstuv"

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	return sshtest.Signer(t)
}

func bundleOf(t testing.TB) (cached, ssh.PublicKey) {
	ca := newSigner(t).PublicKey()
	return cached{Bundle: api.HostBundle{Version: 5, Name: "db-1", HostID: "db-1", HopCAs: []string{sshca.MarshalLine(ca)}, Trust: 2, KRL: 3,
		Logins: []string{"deploy"}, Accounts: []api.HostAccount{{Login: "alice", Groups: []string{"sre"}}}}}, ca
}

// TestJudge asks about certificates that sshd has let pass so far.
func TestJudge(t *testing.T) {
	v, ca := bundleOf(t)
	good := Question{Login: "deploy", Serial: "4294967297", CA: ssh.FingerprintSHA256(ca), KeyID: session + " alice@example.com"}
	for name, tt := range map[string]struct {
		change func(*Question, *cached)
		want   string
		says   string
	}{
		"good":                        {func(*Question, *cached) {}, "deploy@db-1", ""},
		"an account of one's own":     {func(q *Question, _ *cached) { q.Login = "alice" }, "alice@db-1", ""},
		"another login":               {func(q *Question, _ *cached) { q.Login = "root" }, "", "no account"},
		"no login":                    {func(q *Question, _ *cached) { q.Login = "" }, "", "no account"},
		"a principal for a login":     {func(q *Question, _ *cached) { q.Login = "deploy@db-1" }, "", "no account"},
		"another CA":                  {func(q *Question, _ *cached) { q.CA = ssh.FingerprintSHA256(newSigner(t).PublicKey()) }, "", "no hop CA"},
		"no CA":                       {func(q *Question, _ *cached) { q.CA = "" }, "", "no hop CA"},
		"serial 0":                    {func(q *Question, _ *cached) { q.Serial = "0" }, "", "serial"},
		"a serial that is none":       {func(q *Question, _ *cached) { q.Serial = "-1" }, "", "serial"},
		"an access certificate":       {func(q *Question, _ *cached) { q.KeyID = "ses_abcdefghijkmnpqrstuv alice@example.com" }, "", "no SSH session"},
		"a key ID of somebody else's": {func(q *Question, _ *cached) { q.KeyID = "alice" }, "", "key ID"},
		"a revoked session":           {func(_ *Question, c *cached) { c.Bundle.Revoked = []string{session} }, "", "was revoked"},
		"a revoked host":              {func(_ *Question, c *cached) { c.Blocked = true }, "", "host was revoked"},
		"no bundle":                   {func(_ *Question, c *cached) { *c = cached{} }, "", "no account"},
	} {
		t.Run(name, func(t *testing.T) {
			q, c := good, v
			tt.change(&q, &c)
			got, err := c.judge(q)
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("judged %q, %v", got, err)
			}
		})
	}
}

// TestAccept: a bundle takes the place of another only where nothing of it is older, and it is this host's.
func TestAccept(t *testing.T) {
	v, _ := bundleOf(t)
	for name, tt := range map[string]struct {
		change func(*api.HostBundle)
		older  bool
		good   bool
	}{
		"the same":            {func(*api.HostBundle) {}, false, true},
		"newer":               {func(b *api.HostBundle) { b.Version++ }, false, true},
		"older":               {func(b *api.HostBundle) { b.Version-- }, true, false},
		"older CA lists":      {func(b *api.HostBundle) { b.Version, b.Trust = 6, 1 }, true, false},
		"older KRL":           {func(b *api.HostBundle) { b.Version, b.KRL = 6, 2 }, true, false},
		"another host's":      {func(b *api.HostBundle) { b.Version, b.Name = 6, "db-2" }, false, false},
		"without a hop CA":    {func(b *api.HostBundle) { b.Version, b.HopCAs = 6, nil }, false, false},
		"a CA that is none":   {func(b *api.HostBundle) { b.Version, b.HopCAs = 6, []string{"cert-authority *"} }, false, false},
		"a login of two":      {func(b *api.HostBundle) { b.Version, b.Logins = 6, []string{"a,b"} }, false, false},
		"a login of a path":   {func(b *api.HostBundle) { b.Version, b.Logins = 6, []string{"../../etc/passwd"} }, false, false},
		"a wildcard for a ID": {func(b *api.HostBundle) { b.Version, b.HostID = 6, "*" }, false, false},
		"without a version":   {func(b *api.HostBundle) { b.Version = 0 }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := v.Bundle
			tt.change(&b)
			if err := v.accept("db-1", b); (err == nil) != tt.good || errors.Is(err, errOlder) != tt.older {
				t.Errorf("accepted: %v", err)
			}
		})
	}
}

// TestReadBundle refuses a bundle that somebody else may write, and what is none.
func TestReadBundle(t *testing.T) {
	v, _ := bundleOf(t)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), bundleName)
	if err := writeFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readBundle(path)
	if diff := cmp.Diff(v.Bundle, got.Bundle); err != nil || diff != "" || got.age(time.Now()) > time.Minute {
		t.Errorf("read %v, %v", diff, err)
	}
	for _, mode := range []os.FileMode{0o666, 0o664, 0o646} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := readBundle(path); err == nil {
			t.Errorf("a bundle of mode %o is believed", mode)
		}
	}
	if _, err := readBundle(t.TempDir()); err == nil {
		t.Error("a folder is believed")
	}
}

// FuzzReadBundle: whatever lies on the disk, what is read holds the grammar, and comes out as it went in.
func FuzzReadBundle(f *testing.F) {
	v, _ := bundleOf(f)
	data, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{data, []byte("{}"), []byte(`{"bundle":{"version":1,"host_id":"*"}}`), bytes.Replace(data, []byte("deploy"), []byte("a,b"), 1), data[:len(data)/2]} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), bundleName)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := readBundle(path)
		if err != nil {
			return
		}
		for _, login := range got.Bundle.AllLogins() {
			if _, err := sshca.HopPrincipal(login, got.Bundle.HostID); err != nil {
				t.Errorf("read %q: %v", data, err)
			}
		}
		again, err := json.Marshal(got)
		if err != nil || os.WriteFile(path, again, 0o644) != nil {
			t.Fatal(err)
		}
		if back, err := readBundle(path); err != nil || !cmp.Equal(got.Bundle, back.Bundle) || got.Blocked != back.Blocked {
			t.Errorf("%+v came back as %+v, %v", got, back, err)
		}
	})
}

// FuzzJudge: whatever sshd hands over, one principal of this host comes out, of that login, or nothing.
func FuzzJudge(f *testing.F) {
	v, ca := bundleOf(f)
	fingerprint := ssh.FingerprintSHA256(ca)
	f.Add("deploy", "4294967297", fingerprint, session+" alice@example.com")
	f.Add("deploy\nroot", "1", fingerprint, session+" a\nb")
	f.Add("--help", "-1", "SHA256:", "")
	f.Add("deploy", "1", fingerprint, strings.Repeat("ssh_", 100_000))
	f.Fuzz(func(t *testing.T, login, serial, fingerprint, keyID string) {
		principal, err := v.judge(Question{Login: login, Serial: serial, CA: fingerprint, KeyID: keyID})
		if err == nil && (principal != login+"@db-1" || login != "deploy" && login != "alice") {
			t.Errorf("%q opens %q", principal, login)
		}
		if err != nil && principal != "" {
			t.Errorf("refused, and printed %q", principal)
		}
	})
}

// TestDue says when a certificate is renewed: hosts that enrolled together at different times.
func TestDue(t *testing.T) {
	ca, key, other := newSigner(t), newSigner(t).PublicKey(), newSigner(t)
	now := time.Unix(1_900_000_000, 0)
	cert, err := sshca.NewHost(sshca.HostParams{Key: key, Serial: 1, KeyID: "host db-1", Names: []string{"db-1"}, ValidAfter: now, ValidBefore: now.Add(100 * time.Hour)})
	if err == nil {
		err = sshca.Sign(cert, sshca.Host, ca)
	}
	if err != nil {
		t.Fatal(err)
	}
	line := sshca.MarshalLine(cert)
	b := api.HostBundle{HostID: "db-1", HostCAs: []string{sshca.MarshalLine(ca.PublicKey())}}
	for name, tt := range map[string]struct {
		line  string
		key   ssh.PublicKey
		cas   []string
		id    string
		after time.Duration
		share float64
		want  bool
	}{
		"fresh":                    {line, key, b.HostCAs, "db-1", time.Hour, 0, false},
		"old":                      {line, key, b.HostCAs, "db-1", 60 * time.Hour, 0, true},
		"old, and others go first": {line, key, b.HostCAs, "db-1", 60 * time.Hour, 1, false},
		"older":                    {line, key, b.HostCAs, "db-1", 70 * time.Hour, 1, true},
		"expired":                  {line, key, b.HostCAs, "db-1", 101 * time.Hour, 1, true},
		"none":                     {"", key, b.HostCAs, "db-1", time.Hour, 0, true},
		"of another key":           {line, other.PublicKey(), b.HostCAs, "db-1", time.Hour, 0, true},
		"of another name":          {line, key, b.HostCAs, "db-2", time.Hour, 0, true},
		"of a CA that is no more":  {line, key, []string{sshca.MarshalLine(other.PublicKey())}, "db-1", time.Hour, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := due(tt.line, tt.key, api.HostBundle{HostID: tt.id, HostCAs: tt.cas}, now.Add(tt.after), tt.share); got != tt.want {
				t.Errorf("due: %v", got)
			}
		})
	}
}

// TestRevokedCertificate: one that the list in force names is to be renewed, whatever its age; who is revoked now asks for none.
func TestRevokedCertificate(t *testing.T) {
	ca, key, now := newSigner(t), newSigner(t).PublicKey(), time.Unix(1_900_000_000, 0)
	line := func(serial sshca.Serial) string {
		cert, err := sshca.NewHost(sshca.HostParams{Key: key, Serial: serial, KeyID: "host db-1", Names: []string{"db-1"}, ValidAfter: now, ValidBefore: now.Add(time.Hour)})
		if err == nil {
			err = sshca.Sign(cert, sshca.Host, ca)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sshca.MarshalLine(cert)
	}
	d := &Daemon{cfg: Config{dir: t.TempDir()}}
	v, _ := bundleOf(t)
	if d.revoked(v, line(1)) {
		t.Error("revoked without a list")
	}
	put := func(version int64, serials ...krl.Range) {
		t.Helper()
		data, err := krl.List{Version: uint64(version), Generated: now, CAs: []krl.Certificates{{CA: ca.PublicKey(), Serials: serials}}}.Marshal()
		if err == nil {
			err = krl.Replace(d.cfg.file(krlName), data)
		}
		if err != nil {
			t.Fatal(err)
		}
		v.krl = version
	}
	for i, tt := range []struct {
		serials []krl.Range
		line    string
		want    bool
	}{{nil, line(1), false}, {[]krl.Range{krl.Serial(1)}, line(1), true}, {[]krl.Range{krl.Serial(1)}, line(2), false}, {[]krl.Range{krl.Serial(1)}, "", false}, {nil, line(1), false}} {
		put(int64(i+1), tt.serials...)
		for range 2 { // the second time from memory
			if got := d.revoked(v, tt.line); got != tt.want {
				t.Errorf("list %d: %v", i+1, got)
			}
		}
	}
	blocked := v
	blocked.Blocked = true
	if !v.mayRenew() || blocked.mayRenew() || (cached{}).mayRenew() || !blocked.next(v.Bundle).mayRenew() {
		t.Error("asks for a certificate where it gets none, or the other way round")
	}
}

// TestChangesAreAllOrNone has the last of several changes fail.
func TestChangesAreAllOrNone(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"changed": "old", "removed": "old", "blocked/x": ""} {
		if err := writeFile(path(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	all := changes{{path("changed"), []byte("new"), 0o600}, {path: path("removed")}, {path("made"), []byte("new"), 0o600}}
	same := func(want map[string]string) {
		t.Helper()
		for name, text := range want {
			got, err := os.ReadFile(path(name))
			if text == "" && !errors.Is(err, os.ErrNotExist) || string(got) != text {
				t.Errorf("%s holds %q, %v", name, got, err)
			}
		}
	}
	was := map[string]string{"changed": "old", "removed": "old", "made": ""}
	if _, err := append(all, change{path("blocked"), []byte("a folder is in the way"), 0o600}).apply(); err == nil {
		t.Error("a file has taken the place of a folder")
	}
	same(was)
	if info, err := os.Stat(path("changed")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("put back as %v, %v", info, err)
	}
	undo, err := all.apply()
	if err != nil {
		t.Fatal(err)
	}
	same(map[string]string{"changed": "new", "removed": "", "made": "new"})
	if len(all.pending()) != 0 {
		t.Errorf("left to do: %v", all.pending())
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	same(was)
}

// TestKeysOfOtherAccounts: the broker is not asked for keys of an account that no person has here. One whose e-mail gives him the
// name of an account that somebody else made would come into that one.
func TestKeysOfOtherAccounts(t *testing.T) {
	d := &Daemon{}
	d.held, _ = bundleOf(t)
	for _, login := range []string{"root", "postgres", "bob", ""} {
		if r := d.keys(t.Context(), login); r.Why == "" || len(r.Keys) > 0 {
			t.Errorf("%q: %+v", login, r)
		}
	}
}
