//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/broker"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/devtest"
	"sega/keychain"
	"sega/sshca/softkey"
)

// TestLeaks runs the main job and then looks for every secret of it in all that is written down:
// logs, database, recordings, what commands print, command lines and environments (I7).
func TestLeaks(t *testing.T) {
	devtest.Need(t, "ssh", "/usr/sbin/sshd", "/usr/bin/aws")
	e := devtest.Up(t)
	argv := watchArgv(t)
	w := &witness{t: t, env: e}
	w.mainJob()
	w.addCanaries()
	w.addFiles()
	w.addProcesses()
	for line := range argv() {
		w.places["command line "+line] = []byte(line)
	}
	w.look()
}

// witness collects secrets, and places where they must not be.
type witness struct {
	t       *testing.T
	env     *devtest.Env
	secrets map[string]string // by what they are
	places  map[string][]byte
	alice   *devtest.Person
	printed int
}

// run runs a command and keeps what it prints. A command whose job it is to print a secret keeps its
// stdout to itself.
func (w *witness) run(p *devtest.Person, mayPrint bool, name string, args ...string) devtest.Result {
	w.t.Helper()
	r := p.Run(name, args...)
	w.printed++
	place := fmt.Sprintf("%d: %s %s", w.printed, name, strings.Join(args, " "))
	w.places["stderr of "+place] = []byte(r.Err)
	if !mayPrint {
		w.places["stdout of "+place] = []byte(r.Out)
	}
	return r
}

// must is run for a command that ends with code.
func (w *witness) must(code int, p *devtest.Person, name string, args ...string) devtest.Result {
	w.t.Helper()
	r := w.run(p, false, name, args...)
	expect(w.t, r, code)
	return r
}

// mainJob does everything once, well and badly.
func (w *witness) mainJob() {
	t, e := w.t, w.env
	w.secrets, w.places = map[string]string{}, map[string][]byte{}
	w.alice = e.Person(alice)
	sams, carols, mallorys := e.Person(sam), e.Person(carol), e.Person(mallory)
	w.must(0, w.alice, "segad", "dev", "login", alice)
	w.must(0, sams, "segad", "dev", "login", sam)
	w.must(0, carols, "segad", "dev", "login", carol)
	w.must(3, mallorys, "segad", "dev", "login", mallory)
	w.keepSession("alice", w.alice)
	w.keepSession("sam", sams)
	r := w.run(w.alice, true, "sega", "env", "dev-admin", "--format", "json")
	expect(t, r, 0)
	var env map[string]string
	if err := json.Unmarshal([]byte(r.Out), &env); err != nil {
		t.Fatal(err)
	}
	w.secret("AWS secret key of sega env", env["AWS_SECRET_ACCESS_KEY"])
	w.secret("AWS session token of sega env", env["AWS_SESSION_TOKEN"])
	expect(t, w.run(w.alice, true, "sega", "credential-process", "dev-admin"), 0)
	w.must(0, w.alice, "sega", "exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity")
	w.must(0, w.alice, "sega", "exec", "dev-long", "-d", "4h", "--", "/usr/bin/aws", "sts", "get-caller-identity") // by a token of the broker
	w.must(3, w.alice, "sega", "exec", "prod-readonly", "--", "true")
	w.must(0, w.alice, "sega", "exec", "dev-admin", "--chain", "dev-audit", "--read-only", "--", "/usr/bin/aws", "sts", "get-caller-identity")
	w.console()
	for _, args := range [][]string{{"status"}, {"roles"}, {"hosts"}, {"configure", "--ssh", "--print"}, {"audit", "query", "--json"}} {
		w.run(w.alice, false, "sega", args...)
	}
	w.must(0, w.alice, "sega", "ssh", e.Host.Name, "--", "echo out; echo err >&2")
	w.must(2, w.alice, "sega", "ssh")
	w.must(3, w.alice, "sega", "audit", "verify")
	w.must(0, sams, "sega", "sessions", "--json")
	w.must(0, sams, "sega", "revoke", "user", alice, "--yes", "--reason", "leak test")
	w.must(6, w.alice, "sega", "exec", "dev-admin", "--", "true")
	w.must(6, w.alice, "segad", "dev", "login", alice)
	w.must(0, sams, "sega", "unblock", "user", alice, "--reason", "leak test")
	w.must(0, w.alice, "segad", "dev", "login", alice)
	w.keepSession("alice's second", w.alice)
	w.review(carols)
	w.must(0, sams, "sega", "logout")
}

// console prints a sign-in address, and gives another one to a browser, whose own command line must not
// hold it.
func (w *witness) console() {
	w.t.Helper()
	r := w.run(w.alice, true, "sega", "console", "dev-admin", "--print")
	expect(w.t, r, 0)
	w.secret("sign-in token of sega console", signInToken(w.t, r.Out))
	led := filepath.Join(w.t.TempDir(), "led")
	browser := filepath.Join(filepath.Dir(led), "browser")
	script := "#!/bin/sh\n/usr/bin/python3 -c '\nimport sys, urllib.request\nclass No(urllib.request.HTTPRedirectHandler):\n  def redirect_request(self, *a): return None\n" +
		"try: urllib.request.build_opener(No).open(sys.argv[1])\nexcept urllib.error.HTTPError as e: open(sys.argv[2], \"w\").write(e.headers[\"Location\"])\n' \"$1\" " + led + "\n"
	if err := os.WriteFile(browser, []byte(script), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.must(0, w.alice, "env", "BROWSER="+browser, "sega", "console", "dev-admin", "--no-logout")
	devtest.Eventually(w.t, patience, "the browser was led nowhere", func() error {
		raw, err := os.ReadFile(led)
		if err == nil && len(raw) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	w.secret("sign-in token that a browser was led to", signInToken(w.t, read(w.t, led)))
}

func signInToken(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("SigninToken")
}

// review plays, shows and verifies what alice did.
func (w *witness) review(p *devtest.Person) {
	w.t.Helper()
	id := ""
	devtest.Eventually(w.t, patience, "a session that has ended", func() error {
		for _, event := range p.Events("--kind", "session.end", "--user", alice) {
			id = field(event, "session_id")
		}
		if id == "" {
			return errors.New("none")
		}
		return nil
	})
	devtest.Eventually(w.t, patience, "its recording", func() error {
		if r := w.run(p, false, "sega", "audit", "play", id, "--instant", "--reason", "test"); r.Code != 0 {
			return errors.New(r.Err)
		}
		return nil
	})
	w.must(0, p, "sega", "audit", "show", id)
	w.must(0, p, "sega", "audit", "verify")
	w.must(0, p, "sega", "audit", "query", "--intents", "--json")
}

// secret adds a secret, which must be one.
func (w *witness) secret(what, value string) {
	w.t.Helper()
	if len(value) < 12 {
		w.t.Fatalf("%s: a secret of %d characters proves nothing", what, len(value))
	}
	w.secrets[what] = value
}

// keepSession adds what lies sealed in a person's store.
func (w *witness) keepSession(who string, p *devtest.Person) {
	w.t.Helper()
	store, err := keychain.Open(keychain.Config{Dir: filepath.Join(p.Home, "secrets")})
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := store.Get("session")
	if err != nil {
		w.t.Fatal(err)
	}
	var sealed struct{ Token, Key, Refresh string }
	if err := json.Unmarshal(raw.Reveal(), &sealed); err != nil {
		w.t.Fatal(err)
	}
	w.secret("session token of "+who, sealed.Token)
	w.secret("DPoP key of "+who, strings.TrimPrefix(sealed.Key, "sega_dpop_"))
	w.secret("refresh token of "+who, sealed.Refresh)
}

// addCanaries adds what the environment was made with, and what its doubles have given out.
func (w *witness) addCanaries() {
	for _, u := range w.env.Users {
		w.secret("password of "+u.Email, u.Password)
		if u.TOTPSecret != "" {
			w.secret("TOTP secret of "+u.Email, u.TOTPSecret)
		}
	}
	for file, pattern := range map[string]string{
		"ca.passphrase": `(?m)^(\S{12,})$`, "bastion.join": `(?m)^(\S{12,})$`, "indexer.join": `(?m)^(\S{12,})$`, "log.key": `PRIVATE\+KEY\+[^+\s]+\+[^+\s]+\+(\S+)`,
		"reviewer.age": `(AGE-SECRET-KEY-\w+)`, "offline-recovery.age": `(AGE-SECRET-KEY-\w+)`, "tls.key": `(?s)PRIVATE KEY-----\n(\S+)`,
		"bastion/machine.key": `sega_dpop_(\S+)`, "indexer/machine.key": `sega_dpop_(\S+)`, "aws/credentials": `aws_secret_access_key = (\S+)`, "provider.json": `"pkcs8":"([^"]+)"`,
		"sts.json": `"(?:secret_access_key|session_token)":"([^"]+)"`,
	} {
		data, err := os.ReadFile(filepath.Join(w.env.Data, file))
		if err != nil {
			w.t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllSubmatch(data, -1)
		if len(found) == 0 {
			w.t.Fatalf("%s holds no secret of the form %s", file, pattern)
		}
		for i, m := range found {
			w.secret(fmt.Sprintf("secret %d of %s", i+1, file), string(m[1]))
		}
	}
}

// addFiles adds every file that a server or a command has written, but for those that are there to
// hold secrets.
func (w *witness) addFiles() {
	w.addTree(w.env.Data, "log", "sega.db", "sega.db-wal", "recordings", "bastion", "indexer", "run", "policy", "host/sshd_config", "broker.yaml", "bastion.yaml", "indexer.yaml")
	delete(w.places, filepath.Join(w.env.Data, "bastion/machine.key"))
	delete(w.places, filepath.Join(w.env.Data, "indexer/machine.key"))
	w.addTree(w.alice.Home, ".")
	keys, err := filepath.Glob(filepath.Join(w.alice.Home, "secrets", "key-*"))
	if err != nil || len(keys) != 1 {
		w.t.Fatalf("key files %v, %v", keys, err)
	}
	key := strings.TrimSpace(string(w.places[keys[0]]))
	delete(w.places, keys[0])
	w.secret("key of alice's store", key)
}

func (w *witness) addTree(root string, names ...string) {
	w.t.Helper()
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			w.places[path] = data
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
}

// addProcesses adds command line and environment of the servers.
func (w *witness) addProcesses() {
	for _, name := range []string{"broker", "bastion", "host"} {
		for _, file := range []string{"cmdline", "environ"} {
			path := fmt.Sprintf("/proc/%d/%s", w.env.PID(name), file)
			data, err := os.ReadFile(path)
			if err != nil || file == "cmdline" && len(data) == 0 {
				w.t.Fatalf("%s: %v", path, err)
			}
			w.places[name+" "+path] = data
		}
	}
	for _, pid := range agentsOf(w.t, w.alice.Home) {
		for _, file := range []string{"cmdline", "environ"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, file)
			w.places["agent "+path] = []byte(read(w.t, path))
		}
	}
}

// watchArgv collects the command lines of everything with sega in it, until the returned function is called.
func watchArgv(t *testing.T) func() map[string]bool {
	seen, stop := map[string]bool{}, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, f := range files {
				if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte("sega")) {
					seen[string(bytes.ReplaceAll(line, []byte{0}, []byte(" ")))] = true
				}
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(end)
	return func() map[string]bool { end(); return seen }
}

// shapes are secrets that nobody could name beforehand: tokens and keys by their form.
var shapes = map[string]*regexp.Regexp{
	"a signed token":   regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}`),
	"a token of sega":  regexp.MustCompile(`sega_(ses|mch|join|dpop|ep)_[A-Za-z0-9_-]{16,}`),
	"an age identity":  regexp.MustCompile(`AGE-SECRET-KEY-1[A-Z0-9]+`),
	"a private key":    regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`),
	"a key of the log": regexp.MustCompile(`PRIVATE\+KEY\+`),
}

// look searches every place for every secret, as it is and as it might be encoded.
func (w *witness) look() {
	w.t.Helper()
	w.provesSomething()
	for what, value := range w.secrets {
		for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
			hex.EncodeToString([]byte(value)), url.QueryEscape(value)} {
			for place, data := range w.places {
				if bytes.Contains(data, []byte(form)) {
					w.t.Errorf("%s is in %s", what, place)
				}
			}
		}
	}
	for what, shape := range shapes {
		for place, data := range w.places {
			if at := shape.FindIndex(data); at != nil {
				w.t.Errorf("%s is in %s, at byte %d", what, place, at[0])
			}
		}
	}
}

// provesSomething checks that the places hold what was done: an empty one would hide nothing.
func (w *witness) provesSomething() {
	w.t.Helper()
	for _, part := range []string{"sega.db", "log/broker.log", "log/bastion.log", "recordings/", "stdout of", "command line", "bastion/", "agent/log", "agent /proc"} {
		size := 0
		for place, data := range w.places {
			if strings.Contains(place, part) {
				size += len(data)
			}
		}
		if size < 100 {
			w.t.Errorf("%s: %d bytes were looked at", part, size)
		}
	}
	if db := append(w.places[filepath.Join(w.env.Data, "sega.db")], w.places[filepath.Join(w.env.Data, "sega.db-wal")]...); !bytes.Contains(db, []byte("aws.assume")) {
		w.t.Error("the database does not tell of aws.assume: the search sees nothing")
	}
	if token := w.webToken(); !shapes["a signed token"].MatchString(token) {
		w.t.Error("a token of the broker's own as an issuer is not of the form that was looked for")
	}
	if len(w.secrets) < 25 {
		w.t.Errorf("%d secrets, want more", len(w.secrets))
	}
}

// webToken is a token as the broker signs them for STS. Those of the run live in the broker alone.
func (w *witness) webToken() string {
	w.t.Helper()
	pass, err := config.Secret(filepath.Join(w.env.Data, "ca.passphrase"))
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := softkey.OpenSigner(filepath.Join(w.env.Data, "issuer.key"), pass)
	if err != nil {
		w.t.Fatal(err)
	}
	issuer, err := broker.NewIssuer(w.env.Broker, []crypto.Signer{key})
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := issuer.Sign(map[string]string{"iss": issuer.URL()})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(token.Reveal())
}
