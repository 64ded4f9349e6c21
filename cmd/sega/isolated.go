package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"sega/idp"
)

// isolated is a browser in which several roles can be signed in side by side.
type isolated struct {
	firefox  bool     // containers; else profiles of Chrome's family
	commands []string // on a Unix desktop, in this order
	mac      string   // name of the application
	windows  []string // below the folders of programs
}

// isolatedNames are those that isolatedBrowser knows, in order.
func isolatedNames() []string {
	return []string{"brave", "chrome", "chromium", "edge", "firefox", "vivaldi"}
}

// isolatedBrowser finds a browser by name.
func isolatedBrowser(name string) (isolated, bool) {
	switch name {
	case "firefox":
		return isolated{true, []string{"firefox", "firefox-esr"}, "Firefox", []string{`Mozilla Firefox\firefox.exe`}}, true
	case "chrome":
		return isolated{false, []string{"google-chrome", "google-chrome-stable"}, "Google Chrome", []string{`Google\Chrome\Application\chrome.exe`}}, true
	case "chromium":
		return isolated{false, []string{"chromium", "chromium-browser"}, "Chromium", []string{`Chromium\Application\chrome.exe`}}, true
	case "brave":
		return isolated{false, []string{"brave-browser", "brave"}, "Brave Browser", []string{`BraveSoftware\Brave-Browser\Application\brave.exe`}}, true
	case "edge":
		return isolated{false, []string{"microsoft-edge", "microsoft-edge-stable"}, "Microsoft Edge", []string{`Microsoft\Edge\Application\msedge.exe`}}, true
	case "vivaldi":
		return isolated{false, []string{"vivaldi", "vivaldi-stable"}, "Vivaldi", []string{`Vivaldi\Application\vivaldi.exe`}}, true
	}
	return isolated{}, false
}

// open opens an address in a container or profile of that name. Profiles lie in sega's own folder.
func (b isolated) open(address, name, home string) error {
	args, err := b.arguments(address, name, home)
	if err != nil {
		return err
	}
	return idp.StartBrowser(b.argvs(runtime.GOOS, os.Getenv, args))
}

// arguments name container or profile. The scheme ext+container is that of the Firefox extension "Open
// external links in a container"; without it Firefox opens nothing.
func (b isolated) arguments(address, name, home string) ([]string, error) {
	if b.firefox {
		return []string{"ext+container:name=" + url.QueryEscape(name) + "&url=" + url.QueryEscape(address)}, nil
	}
	dir := filepath.Join(home, "browser", folderOf(name))
	return []string{"--user-data-dir=" + dir, "--no-first-run", "--no-default-browser-check", address}, os.MkdirAll(dir, 0o700)
}

// plainFolder is a name that every file system takes as it is. It is compiled where it is used: what is
// initialised costs every command.
const plainFolder = `\A[a-z0-9_][a-z0-9._-]{0,63}\z`

// folderOf is a name as a folder, whatever somebody called it, also where folders do not differ by case.
func folderOf(name string) string {
	if regexp.MustCompile(plainFolder).MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "=" + hex.EncodeToString(sum[:8]) // no plain name begins so
}

// argvs are the commands to try on a system.
func (b isolated) argvs(goos string, getenv func(string) string, args []string) [][]string {
	var out [][]string
	switch goos {
	case "darwin":
		return [][]string{append([]string{"open", "-na", b.mac, "--args"}, args...)}
	case "windows":
		for _, root := range []string{"ProgramFiles", "ProgramFiles(x86)", "LocalAppData"} {
			for _, program := range b.windows {
				if dir := getenv(root); dir != "" {
					out = append(out, append([]string{dir + `\` + program}, args...))
				}
			}
		}
		return out
	}
	for _, command := range b.commands {
		out = append(out, append([]string{command}, args...))
	}
	return out
}
