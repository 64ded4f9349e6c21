package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker"
	"sega/cmd/segad/config"
	"sega/keychain/secret"
	"sega/sshca/softkey"
)

// issuerFolder is a folder with the files of an issuer of two keys, of which the second signs.
type issuerFolder struct {
	dir  string
	ids  []string
	conf string // path of broker.yaml
}

func (f issuerFolder) file(name string) string { return filepath.Join(f.dir, name) }

// segad runs a command line in process.
func segad(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func newIssuerFolder(t *testing.T, url string) issuerFolder {
	t.Helper()
	f := issuerFolder{dir: t.TempDir()}
	f.conf = f.file("broker.yaml")
	f.write(t, "pass", "correct horse battery\n")
	for _, name := range []string{"one.key", "two.key"} {
		out, err := segad(t, "issuer", "init", "--out", f.file(name), "--passphrase", f.file("pass"))
		if err != nil {
			t.Fatal(err)
		}
		f.ids = append(f.ids, strings.TrimSpace(out))
	}
	f.write(t, "broker.yaml", "origin: "+url+"\nidp: {issuer: https://login.corp.example}\nca: {passphrase: pass}\nissuer: {keys: [two.key, one.key]}\n")
	return f
}

func (f issuerFolder) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(f.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIssuerCommands(t *testing.T) {
	f := newIssuerFolder(t, "https://sega.corp.example")
	if !regexp.MustCompile(`\A[\w-]{43}\z`).MatchString(f.ids[0]) || f.ids[0] == f.ids[1] {
		t.Errorf("IDs %q", f.ids)
	}
	info, err := os.Stat(f.file("one.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if out, err := segad(t, "issuer", "init", "--out", f.file("one.key"), "--passphrase", f.file("pass")); err == nil || out != "" {
		t.Errorf("a key was overwritten: %q, %v", out, err)
	}
	out, err := segad(t, "issuer", "list", "--config", f.conf)
	if want := "signs\t" + f.ids[1] + "\ttwo.key\npublished\t" + f.ids[0] + "\tone.key\n"; err != nil || out != want {
		t.Errorf("list says %q, %v; want %q", out, err, want)
	}
	out, err = segad(t, "issuer", "subject", "--config", f.conf, "00u1")
	if want := broker.WebSubject("https://login.corp.example", "00u1") + "\n"; err != nil || out != want {
		t.Errorf("subject says %q, %v; want %q", out, err, want)
	}
}

// TestIssuerPublishAndCheck: what is hosted elsewhere is what the broker would serve, and check finds whatever
// AWS would stumble over.
func TestIssuerPublishAndCheck(t *testing.T) {
	site := filepath.Join(t.TempDir(), "site")
	var spoil func(w http.ResponseWriter, r *http.Request) bool
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil == nil || !spoil(w, r) {
			http.FileServer(http.Dir(site)).ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	f := newIssuerFolder(t, web.URL)
	trust := f.file("ca.pem")
	f.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})))
	check := func() (string, error) {
		return segad(t, "issuer", "check", "--config", f.conf, "--ca-file", trust)
	}
	if out, err := check(); err == nil || !strings.Contains(err.Error(), "HTTP status 404") || out != "" {
		t.Errorf("nothing is published: %q, %v", out, err)
	}
	for range 2 { // the second time over what the first has written
		if _, err := segad(t, "issuer", "publish", "--config", f.conf, site); err != nil {
			t.Fatal(err)
		}
	}
	file, err := config.LoadBroker(f.conf)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := openIssuer(f.conf, file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{f.ids[1], f.ids[0]}, issuer.KeyIDs()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, doc := range issuer.Documents() {
		got, err := os.ReadFile(filepath.Join(site, doc.Path))
		if err != nil || !bytes.Equal(got, doc.Body) {
			t.Errorf("%s: %v\n%s", doc.Path, err, got)
		}
	}
	if out, err := check(); err != nil || strings.Count(out, "ok\t"+web.URL) != 2 {
		t.Errorf("%q, %v", out, err)
	}
	f.write(t, "broker.yaml", strings.Replace(readFile(t, f.conf), "[two.key, one.key]", "[two.key]", 1))
	if _, err := check(); err == nil || !strings.Contains(err.Error(), "jwks.json is not what the configuration says") {
		t.Errorf("a key that is published no more: %v", err)
	}
	spoil = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
		return true
	}
	if _, err := check(); err == nil || !strings.Contains(err.Error(), "HTTP status 302") {
		t.Errorf("a redirect: %v", err)
	}
	if _, err := segad(t, "issuer", "check", "--config", f.conf); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestIssuerConfigurationIsRefused(t *testing.T) {
	f := newIssuerFolder(t, "https://sega.corp.example")
	if _, err := softkey.Create(f.file("ca.key"), secret.FromString("correct horse battery"), softkey.Ed25519); err != nil {
		t.Fatal(err)
	}
	f.write(t, "other", "another passphrase\n")
	f.write(t, "open", "correct horse battery\n")
	if err := os.Chmod(f.file("open"), 0o644); err != nil {
		t.Fatal(err)
	}
	const head = "origin: https://sega.corp.example\nca: {passphrase: pass}\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"no section":           {head, "has no section issuer"},
		"no keys":              {head + "issuer: {url: https://x.example}\n", "no keys configured"},
		"no such file":         {head + "issuer: {keys: [none.key]}\n", "none.key"},
		"a CA's key":           {head + "issuer: {keys: [one.key, ca.key]}\n", "key 2 is not one of ECDSA P-256"},
		"a key twice":          {head + "issuer: {keys: [one.key, one.key]}\n", "key 2 is named twice"},
		"another passphrase":   {head + "issuer: {keys: [one.key], passphrase: other}\n", "wrong passphrase"},
		"a passphrase for all": {head + "issuer: {keys: [one.key], passphrase: open}\n", "chmod 600"},
		"a URL with a port":    {head + "issuer: {keys: [one.key], url: 'https://x.example:8443'}\n", "IAM takes no provider with one"},
		"an unknown key":       {head + "issuer:\n  keys: [one.key]\n  alg: none\n", `line 5: unknown key "alg"`},
	} {
		t.Run(name, func(t *testing.T) {
			f.write(t, "broken.yaml", c.yaml)
			out, err := segad(t, "issuer", "list", "--config", f.file("broken.yaml"))
			if err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
				t.Errorf("%q, %v; want %q", out, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "horse") {
				t.Errorf("the passphrase shows: %v", err)
			}
		})
	}
}

func TestKeyless(t *testing.T) {
	web, assume := config.Role{Mode: "web-identity"}, config.Role{}
	for name, c := range map[string]struct {
		roles []config.Role
		want  bool
	}{
		"no roles":      {nil, false},
		"all by tokens": {[]config.Role{web, web}, true},
		"one assumed":   {[]config.Role{web, assume}, false},
		"said so":       {[]config.Role{web, {Mode: "assume-role"}}, false},
	} {
		if got := keyless(config.Broker{Roles: c.roles}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
