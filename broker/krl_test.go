package broker

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
	"sega/sshca/krl"
)

// fetched is what a stranger gets of a KRL's routes.
type fetched struct {
	version   uint64
	etag      string
	list      krl.List
	data, sig []byte
}

// anybody asks without a session, as hosts and laptops do.
func (w *world) anybody(method, route string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, route, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return w.serve(r)
}

// krl fetches list and signature, which must belong together and verify.
func (w *world) krl() fetched {
	w.t.Helper()
	list, sig := w.anybody("GET", api.RouteKRL), w.anybody("GET", api.RouteKRLSig)
	f := fetched{etag: list.Header().Get("ETag"), data: list.Body.Bytes(), sig: sig.Body.Bytes()}
	if list.Code != 200 || sig.Code != 200 || f.etag == "" || sig.Header().Get("ETag") != f.etag || sig.Header().Get(api.HeaderKRLVersion) != list.Header().Get(api.HeaderKRLVersion) {
		w.t.Fatalf("list: %d %v\nsignature: %d %v\n%s", list.Code, list.Header(), sig.Code, sig.Header(), list.Body)
	}
	var err error
	if f.list, err = krl.Parse(f.data); err != nil {
		w.t.Fatal(err)
	}
	if f.version, err = strconv.ParseUint(list.Header().Get(api.HeaderKRLVersion), 10, 64); err != nil || f.version != f.list.Version {
		w.t.Errorf("version %q, %d in the list: %v", list.Header().Get(api.HeaderKRLVersion), f.list.Version, err)
	}
	if err := krl.Verify(f.data, f.sig, sshca.Bundle{w.config.CAs.Hop[0].PublicKey()}); err != nil {
		w.t.Error(err)
	}
	return f
}

// revoked puts a certificate on the list, as `revoke cert` does.
func (w *world) revoked(profile string, serial uint64, before time.Time) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.RevokeCert(ctx, tx, state.RevokedCert{Profile: profile, Serial: serial, ValidBefore: before})
	})
	w.s.hub.notify()
}

// shown is a certificate of a CA, of a serial.
func shown(t testing.TB, ca ssh.Signer, serial uint64) *ssh.Certificate {
	t.Helper()
	return &ssh.Certificate{Key: sshKey(t), SignatureKey: ca.PublicKey(), Serial: serial, KeyId: "x"}
}

// TestKRL: each profile's serials are those of its CA alone, an access certificate is none of the list's.
func TestKRL(t *testing.T) {
	second := signer(t)
	w := newWorld(t, func(c *Config) { c.CAs.MoreHost = []ssh.PublicKey{second.PublicKey()} })
	empty := w.krl()
	if len(empty.list.CAs) != 0 || len(empty.list.Keys) != 0 {
		t.Errorf("at first: %+v", empty.list)
	}
	until := w.clock.now().Add(time.Hour)
	for serial, profile := range map[uint64]string{3: api.ProfileFront, 4: api.ProfileHop, 5: api.ProfileHost, 6: api.ProfileAccess} {
		w.revoked(profile, serial, until)
	}
	l := w.krl().list
	cas := w.config.CAs
	for name, tt := range map[string]struct {
		ca     ssh.Signer
		serial uint64
		want   bool
	}{
		"front": {cas.Front[0], 3, true}, "hop": {cas.Hop[0], 4, true}, "host": {cas.Host[0], 5, true}, "host, under the CA beside": {second, 5, true},
		"access": {cas.Access[0], 6, false}, "front's at the host CA": {cas.Host[0], 3, false}, "host's at the front CA": {cas.Front[0], 5, false}, "another": {cas.Host[0], 7, false},
	} {
		if got := l.Revokes(shown(t, tt.ca, tt.serial)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestKRLAtOpenSSH: ssh-keygen takes what comes over HTTP.
func TestKRLAtOpenSSH(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		missing(t, "ssh-keygen")
	}
	w := newWorld(t)
	w.revoked(api.ProfileFront, 7, w.clock.now().Add(time.Hour))
	f := w.krl()
	dir := t.TempDir()
	file := filepath.Join(dir, "krl")
	if err := krl.Replace(file, f.data); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(keygen, "-Q", "-l", "-f", file).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestKRLIsMadeOnce: while nothing changes, everybody gets the same bytes, or is told that he has them.
func TestKRLIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	w.revoked(api.ProfileHost, 9, w.clock.now().Add(time.Hour))
	first := w.krl()
	w.clock.add(time.Minute)
	if again := w.krl(); again.version != first.version || again.etag != first.etag || string(again.sig) != string(first.sig) {
		t.Errorf("made anew: %d and %d", first.version, again.version)
	}
	for _, route := range []string{api.RouteKRL, api.RouteKRLSig} {
		for name, tt := range map[string]struct {
			method, match string
			code          int
			body          bool
		}{
			"what I have":           {"GET", first.etag, 304, false},
			"one of several":        {"GET", `"x", ` + first.etag, 304, false},
			"whatever there is":     {"GET", "*", 304, false},
			"another one":           {"GET", `"x"`, 200, true},
			"weakly the same":       {"GET", "W/" + first.etag, 304, false},
			"the head alone":        {"HEAD", "", 200, false},
			"the head of what I do": {"HEAD", first.etag, 304, false},
		} {
			rec := w.anybody(tt.method, route, "If-None-Match", tt.match)
			if rec.Code != tt.code || (rec.Body.Len() > 0) != tt.body || rec.Header().Get("ETag") != first.etag || rec.Header().Get(api.HeaderKRLVersion) == "" {
				t.Errorf("%s, %s: %d, %d bytes, %v", route, name, rec.Code, rec.Body.Len(), rec.Header())
			}
			if rec.Header().Get(api.HeaderNonce) != "" || rec.Header().Get("Cache-Control") != "no-cache" {
				t.Errorf("%s, %s: a cache would hand on %v", route, name, rec.Header())
			}
		}
		if rec := w.anybody("POST", route); rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s takes a POST: %d", route, rec.Code)
		}
	}
	w.revoked(api.ProfileHost, 10, w.clock.now().Add(time.Hour))
	next := w.krl()
	if next.version <= first.version || next.etag == first.etag || !next.list.Generated.After(first.list.Generated) {
		t.Errorf("version %d after %d", next.version, first.version)
	}
}

// TestKRLForgetsWhatHasExpired, and says so by a version of its own.
func TestKRLForgetsWhatHasExpired(t *testing.T) {
	w := newWorld(t)
	w.revoked(api.ProfileFront, 1, w.clock.now().Add(time.Hour))
	w.revoked(api.ProfileHost, 2, w.clock.now().Add(30*24*time.Hour))
	sweep := func() fetched {
		t.Helper()
		if err := w.s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.s.hub.notify()
		return w.krl()
	}
	both := sweep()
	w.clock.add(2 * time.Hour) // expired, and inside the margin for clocks that are behind
	if got := sweep(); got.version != both.version {
		t.Errorf("version %d of the same content, %d before", got.version, both.version)
	}
	w.clock.add(24 * time.Hour)
	got := sweep()
	if got.version <= both.version || got.list.Revokes(shown(t, w.config.CAs.Front[0], 1)) || !got.list.Revokes(shown(t, w.config.CAs.Host[0], 2)) {
		t.Errorf("version %d after %d: %+v", got.version, both.version, got.list)
	}
}

// TestKRLVersionNeverGoesBack: neither a restart nor a database that was restored from a backup, whether anybody
// notices or not, gives a version twice.
func TestKRLVersionNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	until := w.clock.now().Add(time.Hour)
	w.revoked(api.ProfileHost, 1, until)
	seen := map[uint64]string{}
	last := uint64(0)
	note := func(when string) {
		t.Helper()
		f := w.krl()
		if f.version < last || seen[f.version] != "" && seen[f.version] != f.etag {
			t.Errorf("%s: version %d of %s after %d, which was %s", when, f.version, f.etag, last, seen[f.version])
		}
		last, seen[f.version] = f.version, f.etag
	}
	note("at first")
	var backup state.KRL
	restore := func() { // the records as they were, of which the log itself knows nothing
		w.write(func(ctx context.Context, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE krl SET changes=?, version=?, digest=?, generated=?`, backup.Changes, backup.Version, backup.Digest, state.Millis(backup.Generated))
			_, other := tx.ExecContext(ctx, `DELETE FROM revoked_certs WHERE serial<>'1'`)
			return errors.Join(err, other)
		})
	}
	if err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Querier) (err error) {
		backup, err = state.KRLState(ctx, tx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		w.revoked(api.ProfileHost, 100+i, until)
		note("while it grows") // five in one millisecond
	}
	w.restart()
	note("after a restart")
	w.clock.add(time.Second)
	restore()
	w.restart()
	note("after a restore that nobody noticed")
	w.write(func(ctx context.Context, tx store.Tx) error { return state.Recover(ctx, tx, w.clock.now()) })
	w.s.hub.notify()
	note("after a recovery")
	w.clock.add(-time.Hour)
	w.restart()
	note("with a clock that was set back")
}

// TestKRLUnderLoad: while certificates are revoked, whoever fetches list and signature can tell whether they belong
// together, and no list lacks what was revoked before it was asked for.
func TestKRLUnderLoad(t *testing.T) {
	w := newWorld(t)
	until := w.clock.now().Add(time.Hour)
	bundle := sshca.Bundle{w.config.CAs.Hop[0].PublicKey()}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				list, sig := w.anybody("GET", api.RouteKRL), w.anybody("GET", api.RouteKRLSig)
				if list.Code == http.StatusTooManyRequests || sig.Code == http.StatusTooManyRequests {
					continue
				}
				together := list.Header().Get(api.HeaderKRLVersion) == sig.Header().Get(api.HeaderKRLVersion)
				if err := krl.Verify(list.Body.Bytes(), sig.Body.Bytes(), bundle); (err == nil) != together {
					t.Errorf("list %s and signature %s: %v", list.Header().Get(api.HeaderKRLVersion), sig.Header().Get(api.HeaderKRLVersion), err)
				}
			}
		})
	}
	for i := range uint64(30) {
		w.revoked(api.ProfileHost, 2*i+1, until)
		k, err := w.s.currentKRL(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l, err := krl.Parse(k.data)
		if err != nil || !l.Revokes(shown(t, w.config.CAs.Host[0], 2*i+1)) {
			t.Errorf("serial %d is not on the list: %v", 2*i+1, err)
		}
	}
	close(done)
	readers.Wait()
}

// TestKRLOfRetiredCAs: what a retired CA has signed is refused, whatever its serial; one that is trusted is on no list.
func TestKRLOfRetiredCAs(t *testing.T) {
	w := newWorld(t)
	old := signer(t)
	retire := func(ca ssh.Signer) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.AddCAKey(ctx, tx, state.CAKey{CA: "host", Key: sshca.MarshalLine(ca.PublicKey()), Phase: state.CARetired, Version: 1, Published: w.clock.now()})
		})
		w.s.hub.notify()
	}
	before := w.krl()
	retire(old)
	f := w.krl()
	if f.version <= before.version || !f.list.Revokes(shown(t, old, 1)) || f.list.Revokes(shown(t, w.config.CAs.Host[0], 1)) {
		t.Errorf("%+v", f.list)
	}
}

// TestKRLWithoutDatabase: where the list cannot be known to be current, none is sent.
func TestKRLWithoutDatabase(t *testing.T) {
	w := newWorld(t)
	w.log.on(func([]audit.Event) error { return store.ErrUnavailable })
	if rec := w.anybody("GET", api.RouteKRL); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestKRLIsLimited: an address gets so many whole lists, and is told more often that it has them.
func TestKRLIsLimited(t *testing.T) {
	w := newWorld(t)
	etag := w.krl().etag
	for range krlBurst {
		w.anybody("HEAD", api.RouteKRL)
	}
	for _, none := range []string{"", "x" + etag, etag + "x"} { // of the last two http.ServeContent would read no ETag
		if rec := w.anybody("GET", api.RouteKRL, "If-None-Match", none); rec.Code != http.StatusTooManyRequests {
			t.Errorf("%s: %d", none, rec.Code)
		}
	}
	if rec := w.anybody("GET", api.RouteKRL, "If-None-Match", etag); rec.Code != http.StatusNotModified {
		t.Errorf("%d", rec.Code)
	}
}

// missing skips what needs a program, but never in CI.
func missing(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is not installed", name)
}

// late lets the second pass in which a broker does not look at the database again.
func (w *world) late() *world {
	w.s.krls.mu.Lock()
	defer w.s.krls.mu.Unlock()
	w.s.krls.seen = time.Time{}
	return w
}

// TestTwoBrokersMakeOneKRL: what one revokes the other one's list holds a second later, in the same bytes, and neither
// makes versions of what has not changed.
func TestTwoBrokersMakeOneKRL(t *testing.T) {
	a, b := pair(t)
	a.krl()
	b.krl()
	a.revoked(api.ProfileHost, 7, a.clock.now().Add(time.Hour))
	one := a.krl()
	if other := b.late().krl(); other.etag != one.etag || !other.list.Revokes(shown(t, a.config.CAs.Host[0], 7)) {
		t.Errorf("versions %d and %d", one.version, other.version)
	}
	for range 3 {
		for _, w := range []*world{a, b} {
			if got := w.late().krl(); got.etag != one.etag {
				t.Errorf("version %d became %d, and nothing has changed", one.version, got.version)
			}
		}
	}
}
