//go:build linux

package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// newTestKeeper keeps accounts in files of its own, by the system's real useradd and usermod.
func newTestKeeper(t *testing.T) (*keeper, map[string]error) {
	t.Helper()
	for _, p := range []string{"useradd", "usermod"} {
		if _, err := exec.LookPath(p); err != nil || os.Geteuid() != 0 {
			if os.Getenv("CI") != "" {
				t.Fatalf("accounts are made by root, with %s", p)
			}
			t.Skipf("accounts are made by root, with %s", p)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh\nbob:x:1001:1001:Bob himself:/home/bob:/bin/sh\n", "shadow": "root:*:19000::::::\nbob:*:19000::::::\n",
		"group": "root:x:0:\nadm:x:4:\nbob:x:1001:\n", "gshadow": "root:*::\nadm:*::\nbob:*::\n", "login.defs": "UID_MIN 2000\nUID_MAX 3000\nGID_MIN 2000\nGID_MAX 3000\n"} {
		if err := writeFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]error{}
	k, err := newKeeper(Config{dir: dir, Accounts: &Accounts{UnixGroups: []string{"adm"}}}, func(login string, err error) { said[login] = err })
	if err != nil {
		t.Fatal(err)
	}
	k.prefix = dir
	return k, said
}

func (k *keeper) line(t *testing.T, file, begin string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(k.prefix, "etc", file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, begin+":") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// TestAccounts makes accounts, locks them, brings them back, and leaves others alone.
func TestAccounts(t *testing.T) {
	k, said := newTestKeeper(t)
	alice, bob := api.HostAccount{Login: "alice", Person: "a", Name: "Alice A: root,x"}, api.HostAccount{Login: "bob", Name: "Bob"}
	ready := k.sync(t.Context(), []api.HostAccount{alice, bob, {Login: "../x"}, {Login: "-x"}})
	if diff := cmp.Diff([]api.HostAccount{alice}, ready); diff != "" {
		t.Errorf("ready (-want +got):\n%s%v", diff, said)
	}
	if !errors.Is(said["bob"], errForeign) || said["../x"] == nil || said["-x"] == nil {
		t.Errorf("said %v", said)
	}
	if line := k.line(t, "passwd", "alice"); !strings.Contains(line, ":Alice A rootx ("+accountMark+"):") {
		t.Errorf("passwd has %q", line)
	}
	if got := k.line(t, "group", "adm"); got != "adm:x:4:alice" {
		t.Errorf("group has %q", got)
	}
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:*:") {
		t.Errorf("shadow has %q", got)
	}
	others := k.line(t, "passwd", "bob") + k.line(t, "shadow", "bob") + k.line(t, "shadow", "root")

	again, err := newKeeper(Config{dir: k.prefix, Accounts: &k.Accounts}, k.say) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	again.prefix = k.prefix
	if ready := again.sync(t.Context(), nil); len(ready) != 0 {
		t.Errorf("ready: %v", ready)
	}
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:!*:") || !strings.HasSuffix(got, ":1:") {
		t.Errorf("not locked: %q", got)
	}
	if got := k.line(t, "group", "adm"); got != "adm:x:4:" {
		t.Errorf("group has %q", got)
	}
	twin := alice
	twin.Person = "b"
	if ready := again.sync(t.Context(), []api.HostAccount{twin}); len(ready) != 0 || !errors.Is(said["alice"], errOther) || !strings.HasPrefix(k.line(t, "shadow", "alice"), "alice:!*:") {
		t.Errorf("somebody else of that name has got the account: %v", said)
	}
	if ready := again.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Errorf("not back: %v", said)
	}
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:*:") || strings.HasSuffix(got, ":1:") {
		t.Errorf("still locked: %q", got)
	}
	if now := k.line(t, "passwd", "bob") + k.line(t, "shadow", "bob") + k.line(t, "shadow", "root"); now != others {
		t.Errorf("others were touched: %s, before %s", now, others)
	}
}

// TestUnnotedAccountIsNotMade: while the book cannot be written there is no new account, however often it is asked for.
func TestUnnotedAccountIsNotMade(t *testing.T) {
	k, said := newTestKeeper(t)
	if err := os.MkdirAll(filepath.Join(k.path, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ready := k.sync(t.Context(), []api.HostAccount{{Login: "alice"}}); len(ready) != 0 || said["alice"] == nil || k.line(t, "passwd", "alice") != "" {
			t.Errorf("ready %v, said %v", ready, said)
		}
	}
}

// TestForeignAccountOfAKnownName: an account that was made anew by somebody else under a name of ours is his.
func TestForeignAccountOfAKnownName(t *testing.T) {
	k, said := newTestKeeper(t)
	if err := k.note("bob", entry{}); err != nil {
		t.Fatal(err)
	}
	before := k.line(t, "shadow", "bob")
	if ready := k.sync(t.Context(), []api.HostAccount{{Login: "bob"}}); len(ready) != 0 || !errors.Is(said["bob"], errForeign) {
		t.Errorf("ready %v, said %v", ready, said)
	}
	k.sync(t.Context(), nil)
	if now := k.line(t, "shadow", "bob"); now != before {
		t.Errorf("it was touched: %q", now)
	}
}

// rewrite changes an account's line in the files, as other programs do.
func (k *keeper) rewrite(t *testing.T, file string, change func(string) string) {
	t.Helper()
	path := filepath.Join(k.prefix, "etc", file)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(change(string(data))), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// without takes an account's line away.
func without(login string) func(string) string {
	return func(text string) (out string) {
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, login+":") {
				out += line
			}
		}
		return out
	}
}

// TestRenamedAccountIsLocked: whoever has changed his comment by chfn is locked out all the same, and comes back.
func TestRenamedAccountIsLocked(t *testing.T) {
	k, said := newTestKeeper(t)
	alice := []api.HostAccount{{Login: "alice", Person: "a", Name: "Alice"}}
	if ready := k.sync(t.Context(), alice); len(ready) != 1 {
		t.Fatalf("not made: %v", said)
	}
	k.rewrite(t, "passwd", func(text string) string { return strings.Replace(text, "Alice ("+accountMark+")", "me", 1) })
	k.sync(t.Context(), nil)
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:!*:") {
		t.Errorf("not locked: %q", got)
	}
	if ready := k.sync(t.Context(), alice); len(ready) != 1 || !strings.HasPrefix(k.line(t, "shadow", "alice"), "alice:*:") {
		t.Errorf("not back: %v", said)
	}
	k.rewrite(t, "passwd", func(text string) string { // somebody has made it anew, under another number
		return without("alice")(text) + "alice:x:1777:1777:A (" + accountMark + "):/home/a:/bin/sh\n"
	})
	before := k.line(t, "shadow", "alice")
	if ready := k.sync(t.Context(), alice); len(ready) != 0 || !errors.Is(said["alice"], errForeign) {
		t.Errorf("ready %v, said %v", ready, said)
	}
	k.sync(t.Context(), nil)
	if !errors.Is(said["alice"], errNotLocked) {
		t.Errorf("nobody is told that it is not locked: %v", said)
	}
	if now := k.line(t, "shadow", "alice"); now != before {
		t.Errorf("it was touched: %q", now)
	}
}

// TestInterruptedAccount: one that was made while we died is taken over by its mark, and then known by its number.
func TestInterruptedAccount(t *testing.T) {
	k, said := newTestKeeper(t)
	alice := []api.HostAccount{{Login: "alice", Person: "a"}}
	k.sync(t.Context(), alice)
	k.book["alice"] = entry{Person: "a"}
	if ready := k.sync(t.Context(), alice); len(ready) != 1 || k.book["alice"].UID == 0 {
		t.Errorf("ready %v, said %v, book %v", ready, said, k.book)
	}
}

// TestAnothersNameIsLocked: an account whose name the broker gives to somebody else by now, as after a restore of its database, is
// locked like every one that goes.
func TestAnothersNameIsLocked(t *testing.T) {
	k, said := newTestKeeper(t)
	alice, twin := api.HostAccount{Login: "alice", Person: "a"}, api.HostAccount{Login: "alice", Person: "b"}
	if ready := k.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Fatalf("not made: %v", said)
	}
	if ready := k.sync(t.Context(), []api.HostAccount{twin}); len(ready) != 0 || !errors.Is(said["alice"], errOther) {
		t.Errorf("ready %v, said %v", ready, said)
	}
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:!*:") || !k.book["alice"].Locked || k.book["alice"].Person != "a" {
		t.Errorf("not locked: %q, %+v", got, k.book["alice"])
	}
	if ready := k.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 || !strings.HasPrefix(k.line(t, "shadow", "alice"), "alice:*:") {
		t.Errorf("not back: %v", said)
	}
}

// TestNobodyGetsAnothersHome: neither the name of somebody whose account root has deleted, nor a home that lies there.
func TestNobodyGetsAnothersHome(t *testing.T) {
	k, said := newTestKeeper(t)
	alice := api.HostAccount{Login: "alice", Person: "a"}
	if ready := k.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Fatalf("not made: %v", said)
	}
	for _, file := range []string{"passwd", "shadow", "group", "gshadow"} {
		k.rewrite(t, file, without("alice"))
	}
	twin := alice
	twin.Person = "b"
	if ready := k.sync(t.Context(), []api.HostAccount{twin}); len(ready) != 0 || !errors.Is(said["alice"], errOther) || k.line(t, "passwd", "alice") != "" {
		t.Errorf("somebody else of that name has got the account: %v", said)
	}
	if ready := k.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Errorf("not back: %v", said)
	}
	home := filepath.Join(k.prefix, "home", "carol")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if ready := k.sync(t.Context(), []api.HostAccount{{Login: "carol", Person: "c"}}); len(ready) != 0 || !errors.Is(said["carol"], errHome) || k.line(t, "passwd", "carol") != "" {
		t.Errorf("a home that was there has got an account: %v", said)
	}
	if err := os.Remove(home); err != nil {
		t.Fatal(err)
	}
	if ready := k.sync(t.Context(), []api.HostAccount{{Login: "carol", Person: "c"}}); len(ready) != 1 {
		t.Errorf("not made: %v", said)
	}
}

// TestLeavingLocksAccounts: nobody keeps an account of a host that has left, and whose it was is known when it enrols again.
func TestLeavingLocksAccounts(t *testing.T) {
	k, said := newTestKeeper(t)
	alice := api.HostAccount{Login: "alice", Person: "a"}
	if ready := k.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Fatalf("not made: %v", said)
	}
	c := Config{dir: k.prefix, prefix: k.prefix, SSHD: "/bin/true", Snippet: filepath.Join(k.prefix, "snippet"), Certificate: filepath.Join(k.prefix, "cert"), Accounts: &k.Accounts}
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.line(t, "shadow", "alice"); !strings.HasPrefix(got, "alice:!*:") {
		t.Errorf("not locked: %q", got)
	}
	mallory := api.HostAccount{Login: "mallory", Person: "m"} // whose account has another number by now
	if ready := k.sync(t.Context(), []api.HostAccount{mallory}); len(ready) != 1 {
		t.Fatalf("not made: %v", said)
	}
	k.rewrite(t, "passwd", func(text string) string {
		return without("mallory")(text) + "mallory:x:1777:1777::/home/m:/bin/sh\n"
	})
	if err := writeFile(c.Snippet, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(t.Context()); err == nil || !strings.Contains(err.Error(), "mallory is not locked") {
		t.Errorf("left with %v", err)
	}
	if _, err := os.Stat(c.Snippet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sshd's configuration stays: %v", err)
	}
	again, err := newKeeper(c, k.say)
	if err != nil {
		t.Fatal(err)
	}
	twin := alice
	twin.Person = "b"
	if ready := again.sync(t.Context(), []api.HostAccount{twin}); len(ready) != 0 || !errors.Is(said["alice"], errOther) {
		t.Errorf("ready %v, said %v", ready, said)
	}
	if ready := again.sync(t.Context(), []api.HostAccount{alice}); len(ready) != 1 {
		t.Errorf("not back: %v", said)
	}
}
