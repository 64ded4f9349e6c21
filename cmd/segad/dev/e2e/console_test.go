//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// browserTime is how long a browser may take to start and show a page on a busy machine.
const browserTime = 3 * patience

// window is a headless Chromium that shows one page for each start, and keeps its cookies.
type window struct {
	t                      *testing.T
	path, shown, arguments string
}

// openWindow makes the command that stands for a browser called name.
func openWindow(t *testing.T, name string, more ...string) window {
	t.Helper()
	devtest.Need(t, "chromium")
	dir := t.TempDir()
	w := window{t, filepath.Join(dir, name), filepath.Join(dir, "shown"), filepath.Join(dir, "arguments")}
	// The page goes to a file in one piece, when the browser has ended.
	script := fmt.Sprintf(`#!/bin/sh
printf '%%s\n' "$@" > %[1]s/arguments
HOME=%[1]s /usr/bin/chromium --headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --disable-background-networking --disable-component-update --disable-sync %[2]s --dump-dom "$@" > %[1]s/page 2> %[1]s/talk
mv %[1]s/page %[1]s/shown
`, dir, strings.Join(more, " "))
	if err := os.WriteFile(w.path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// page waits for what the window shows, and forgets it.
func (w window) page() (page string) {
	w.t.Helper()
	devtest.Eventually(w.t, browserTime, "the browser shows nothing", func() error {
		raw, err := os.ReadFile(w.shown)
		if page = string(raw); err == nil && page == "" {
			err = errors.New("it ended without a page")
		}
		return err
	})
	if err := os.Remove(w.shown); err != nil {
		w.t.Fatal(err)
	}
	return page
}

// testConsole ends in a browser on the console's page, as alice in the role.
func testConsole(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	usual := openWindow(t, "browser", "--user-data-dir="+t.TempDir())
	console := func(env []string, args ...string) devtest.Result {
		t.Helper()
		return p.Run("env", append(append(env, "sega", "console"), args...)...)
	}
	in := []string{"BROWSER=" + usual.path}

	expect(t, console(in, "dev-admin", "--service", "s3", "--region", "eu-west-1"), 0, "opened the AWS console as dev-admin, until")
	page := usual.page()
	for _, want := range []string{aliceARN, "/s3/home?region=eu-west-1"} {
		if !strings.Contains(page, strings.ReplaceAll(want, "&", "&amp;")) {
			t.Errorf("%q is not in %s", want, page)
		}
	}
	// What the list of processes shows leads nowhere any more.
	handed := strings.TrimSpace(read(t, usual.arguments))
	if u, err := url.Parse(handed); err != nil || u.Hostname() != "127.0.0.1" || strings.Contains(handed, "SigninToken") {
		t.Errorf("the browser was given %s", handed)
	}
	// AWS signs nobody in over somebody else: without the logout it says so, with it the browser changes roles.
	expect(t, console(in, "dev-admin", "--chain", "dev-audit", "--no-logout"), 0)
	if page := usual.page(); !strings.Contains(page, "You must first log out") {
		t.Errorf("without the logout: %s", page)
	}
	expect(t, console(in, "dev-admin", "--chain", "dev-audit"), 0, "as dev-audit")
	if page := usual.page(); !strings.Contains(page, auditorARN) {
		t.Errorf("with the logout: %s", page)
	}
	// A browser of the role's own is signed in beside the others.
	own := openWindow(t, "chromium")
	path := "PATH=" + filepath.Dir(own.path) + ":" + p.Bin + ":/usr/bin:/bin"
	expect(t, console([]string{path, "SEGA_CONSOLE_BROWSER=chromium"}, "dev-admin", "--path", "/ec2/home#Instances:"), 0)
	if page := own.page(); !strings.Contains(page, aliceARN) || !strings.Contains(page, "/ec2/home") {
		t.Errorf("in a profile of the role's own: %s", page)
	}
	if arguments := read(t, own.arguments); !strings.Contains(arguments, "--user-data-dir="+filepath.Join(p.Home, "browser", "dev-admin")+"\n") {
		t.Errorf("it was started with %s", arguments)
	}
	testConsolePrinted(t, e, p)
}

// testConsolePrinted holds --print, refusals, and what the log and a revocation say of consoles.
func testConsolePrinted(t *testing.T, e *devtest.Env, p *devtest.Person) {
	r := p.Sega("console", "dev-admin", "--print")
	expect(t, r, 0)
	address := strings.TrimSuffix(r.Out, "\n")
	if strings.Contains(address, "\n") || !strings.HasPrefix(address, e.Console+"/federation?Action=login&") {
		t.Fatalf("printed %q", r.Out)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Timeout: patience, Jar: jar}
	resp, err := web.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), aliceARN) {
		t.Errorf("%v: %s", err, body)
	}
	expect(t, p.Run("env", "BROWSER=/nonexistent/browser", "sega", "console", "dev-admin"), 1, "--print")
	expect(t, p.Sega("console", "dev-admin", "--print", "--path", "//evil.example/"), 1, "not one below the console's host")
	expect(t, e.LoggedIn(bob).Sega("console", "prod-readonly", "--print"), 3, `no policy permits console on role "prod-readonly"`)
	expect(t, e.LoggedIn(carol).Sega("console", "dev-admin", "--print"), 3)

	reviewer, security := e.LoggedIn(carol), e.LoggedIn(sam)
	events := reviewer.Events("--user", alice, "--kind", "aws.console", "--outcome", "success")
	if len(events) < 4 {
		t.Fatalf("%d events", len(events))
	}
	for _, v := range events {
		if field(v, "details.destination") == "" || field(v, "details.console_until") == "" || strings.Contains(fmt.Sprint(v), "SigninToken") {
			t.Errorf("event %v", v)
		}
	}
	expect(t, security.Sega("revoke", "user", alice, "--reason", "look"), 2, "AWS credentials of dev-admin (console)", "AWS credentials of dev-audit (through dev-admin) (console)")
}
