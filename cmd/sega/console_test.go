package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/idp"
	"sega/keychain/secret"
)

const signInCanary = "https://signin.example/federation?Action=login&SigninToken=canary+/="

// visit is a browser that shows where it is led, and goes nowhere.
func visit(t *testing.T, method, address string, change ...func(*http.Request)) (int, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || strings.Contains(string(body), "canary") {
		t.Errorf("%v: %s", err, body)
	}
	return resp.StatusCode, resp.Header
}

// TestHandOver: the address that a browser is given leads to the secret one once, for whoever knows it
// whole, and tells nothing else to anybody.
func TestHandOver(t *testing.T) {
	err := handOver(t.Context(), signInCanary, func(address string) error {
		u, err := url.Parse(address)
		if err != nil || u.Hostname() != "127.0.0.1" || len(u.Path) < 40 || strings.Contains(address, "canary") {
			t.Errorf("the browser is given %q", address)
		}
		for name, tt := range map[string]struct {
			method, address string
			change          func(*http.Request)
		}{
			"another path":    {"GET", strings.TrimSuffix(address, u.Path) + "/", nil},
			"a cut path":      {"GET", address[:len(address)-1], nil},
			"a longer path":   {"GET", address + "x", nil},
			"a query":         {"GET", address + "?x", nil},
			"another method":  {"POST", address, nil},
			"a look":          {"HEAD", address, nil},
			"another name":    {"GET", address, func(r *http.Request) { r.Host = "localhost:" + u.Port() }},
			"a name of a web": {"GET", address, func(r *http.Request) { r.Host = "evil.example" }},
		} {
			change := tt.change
			if change == nil {
				change = func(*http.Request) {}
			}
			if status, header := visit(t, tt.method, tt.address, change); status != 404 || header.Get("Location") != "" {
				t.Errorf("%s: %d to %q", name, status, header.Get("Location"))
			}
		}
		status, header := visit(t, "GET", address)
		if status != 302 || header.Get("Location") != signInCanary || header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d, %v", status, header)
		}
		if status, header := visit(t, "GET", address); status != 410 || header.Get("Location") != "" {
			t.Errorf("the second time: %d to %q", status, header.Get("Location"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestHandOverToOthers: a process of another user finds nothing, and takes nothing from the browser.
func TestHandOverToOthers(t *testing.T) {
	ours := false
	h := &handover{path: "/x", target: signInCanary, fetched: make(chan struct{}), ours: func(net.Addr, net.Addr) bool { return ours }}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.host = ln.Addr().String()
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	defer srv.Close()
	if status, header := visit(t, "GET", "http://"+h.host+"/x"); status != 404 || header.Get("Location") != "" {
		t.Errorf("another user: %d", status)
	}
	ours = true
	if status, _ := visit(t, "GET", "http://"+h.host+"/x"); status != 302 {
		t.Errorf("the browser: %d", status)
	}
}

// TestHandOverEnds: without a browser there is nothing left to be fetched.
func TestHandOverEnds(t *testing.T) {
	var at string
	refused := errors.New("no browser")
	if err := handOver(t.Context(), signInCanary, func(address string) error { at = address; return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := handOver(ctx, signInCanary, func(address string) error { at = address; return nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(explained(consoleError(ctx, err)), "did not fetch") {
		t.Errorf("got %v", err)
	}
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", u.Host); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
}

// TestTarget: the secret address goes through the logout of its own host, and through no other.
func TestTarget(t *testing.T) {
	const login, logout = "https://signin.example/federation?a=b&c=d", "https://signin.example/oauth?Action=logout"
	for name, tt := range map[string]struct {
		login, logout string
		leadsOn       bool
		straight      bool
		want, talk    string
	}{
		"through the logout":       {login, logout, true, false, logout + "&redirect_uri=https%3A%2F%2Fsignin.example%2Ffederation%3Fa%3Db%26c%3Dd", ""},
		"isolated":                 {login, logout, true, true, login, ""},
		"not known to lead on":     {login, logout, false, false, login, "open " + logout},
		"a logout of another host": {login, "https://evil.example/oauth?Action=logout", true, false, login, "evil.example"},
		"a logout by HTTP":         {login, "http://signin.example/oauth", true, false, login, "http://"},
		"no logout":                {login, "", true, false, login, ""},
		"no address":               {"", logout, true, false, "", ""},
		"an address with a user":   {"https://a:b@signin.example/", logout, true, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, talk := testApp(t)
			got, err := a.target(api.Console{URL: secret.FromString(tt.login), LogoutURL: tt.logout, LogoutLeadsOn: tt.leadsOn}, tt.straight)
			if got != tt.want || (err != nil) != (tt.want == "") || !strings.Contains(talk.String(), tt.talk) || tt.talk == "" && strings.Contains(talk.String(), "evil") {
				t.Errorf("%q, %v, says %q", got, err, talk)
			}
		})
	}
}

// TestIsolated: what the browsers are started with, by system.
func TestIsolated(t *testing.T) {
	home := t.TempDir()
	const address = "http://127.0.0.1:1/x?a=b&c"
	for _, tt := range []struct {
		name, browser, container, goos string
		want                           [][]string
	}{
		{"firefox", "firefox", "dev admin&url=x", "linux", [][]string{
			{"firefox", "ext+container:name=dev+admin%26url%3Dx&url=http%3A%2F%2F127.0.0.1%3A1%2Fx%3Fa%3Db%26c"},
			{"firefox-esr", "ext+container:name=dev+admin%26url%3Dx&url=http%3A%2F%2F127.0.0.1%3A1%2Fx%3Fa%3Db%26c"}}},
		{"chrome", "chrome", "dev-admin", "darwin", [][]string{
			{"open", "-na", "Google Chrome", "--args", "--user-data-dir=" + filepath.Join(home, "browser", "dev-admin"), "--no-first-run", "--no-default-browser-check", address}}},
		{"edge", "edge", "dev-admin", "windows", [][]string{
			{`C:\P\Microsoft\Edge\Application\msedge.exe`, "--user-data-dir=" + filepath.Join(home, "browser", "dev-admin"), "--no-first-run", "--no-default-browser-check", address}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, ok := isolatedBrowser(tt.browser)
			if !ok {
				t.Fatal("unknown")
			}
			args, err := b.arguments(address, tt.container, home)
			if err != nil {
				t.Fatal(err)
			}
			got := b.argvs(tt.goos, func(name string) string { return map[string]string{"ProgramFiles": `C:\P`}[name] }, args)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	for _, name := range isolatedNames() {
		b, ok := isolatedBrowser(name)
		if !ok || len(b.commands) == 0 || b.mac == "" || len(b.windows) == 0 || b.firefox != (name == "firefox") {
			t.Errorf("%s: %+v", name, b)
		}
	}
	if _, ok := isolatedBrowser("xdg-open"); ok {
		t.Error("any program is taken for a browser")
	}
	info, err := os.Stat(filepath.Join(home, "browser", "dev-admin"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

// FuzzFolderOf: a role's profile stays in its own folder, and no two roles share one.
func FuzzFolderOf(f *testing.F) {
	f.Add("dev-admin", "../dev-admin")
	f.Add("..", "")
	f.Add("a/b", "=")
	f.Fuzz(func(t *testing.T, one, two string) {
		a, b := folderOf(one), folderOf(two)
		if !filepath.IsLocal(a) || filepath.Base(a) != a || a == "." || a == ".." || strings.HasPrefix(a, "-") {
			t.Errorf("%q is the folder %q", one, a)
		}
		if one != two && a == b {
			t.Errorf("%q and %q share %q", one, two, a)
		}
	})
}

// TestConsoleUsage: what is wrong with the flags is said before anybody is asked.
func TestConsoleUsage(t *testing.T) {
	for line, want := range map[string]string{
		"console":                            "ROLE is missing",
		"console a b":                        `unexpected argument "b"`,
		"console a --browser lynx":           `"lynx" is none`,
		"console a --container x":            "--container is of --browser",
		"console a --print --browser chrome": "--print opens no browser",
		"console a --print --no-logout":      "--print opens no browser",
		"console a --duration 5m":            "between 15m and 12h",
	} {
		a, out, talk := testApp(t)
		if code := run(t.Context(), strings.Fields(line), a); code != exitUsage || !strings.Contains(talk.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", line, code, out, talk)
		}
	}
	a, _, talk := testApp(t, "SEGA_CONSOLE_BROWSER=lynx")
	if code := run(t.Context(), []string{"console", "a"}, a); code != exitUsage || !strings.Contains(talk.String(), `"lynx" is none`) {
		t.Errorf("by the environment: exit %d, %s", code, talk)
	}
	if got := explained(consoleError(t.Context(), idp.ErrNoBrowser)); !strings.Contains(got, "--print") {
		t.Errorf("without a browser: %s", got)
	}
}
