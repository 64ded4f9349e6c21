package idp

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary play a browser: $IDP_TEST_BROWSER names the file for its report.
func TestMain(m *testing.M) {
	report := os.Getenv("IDP_TEST_BROWSER")
	if report == "" {
		os.Exit(m.Run())
	}
	args := os.Args[1:]
	if args[0] == "fail" {
		os.Exit(3)
	}
	os.Stdout.WriteString("noise that must not reach our stdout")
	text := strconv.Itoa(os.Getpid()) + "\n" + strings.Join(args, "\n")
	if os.WriteFile(report+".part", []byte(text), 0o600) != nil || os.Rename(report+".part", report) != nil {
		os.Exit(4)
	}
	if args[0] == "stay" {
		time.Sleep(time.Minute) // a browser that lives on; the test kills it
	}
	os.Exit(0)
}

// fakeBrowser sets $BROWSER to commands in which @ is the test binary, and returns its report.
func fakeBrowser(t *testing.T, commands string) (report func() []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("IDP_TEST_BROWSER", path)
	t.Setenv("BROWSER", strings.ReplaceAll(commands, "@", "'"+exe+"'"))
	return func() []string {
		t.Helper()
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(text), "\n")
	}
}

const loginURL = "https://login.corp.example/authorize?state=a%20b&x=$(id);y"

func TestOpenBrowser(t *testing.T) {
	sep := string(os.PathListSeparator)
	for _, c := range []struct {
		name, commands string
		want           []string // arguments of the browser that ran; nil: an error
	}{
		{"appended", "@ go", []string{"go", loginURL}},
		{"placed", "@ go --url=%s -x", []string{"go", "--url=" + loginURL, "-x"}},
		{"quoted", `@ go "a b" 'c"d'`, []string{"go", "a b", `c"d`, loginURL}},
		{"second after one that does not exist", "/does/not/exist" + sep + "@ go", []string{"go", loginURL}},
		{"second after one that fails", "@ fail" + sep + "@ go", []string{"go", loginURL}},
		{"all fail", "@ fail" + sep + "/does/not/exist", nil},
		{"unclosed quote", "'@ go", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := fakeBrowser(t, c.commands)
			err := OpenBrowser(loginURL)
			if errors.Is(err, ErrNoBrowser) != (c.want == nil) {
				t.Fatalf("error %v", err)
			}
			if c.want == nil {
				return
			}
			if diff := cmp.Diff(c.want, report()[1:]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLivingBrowserIsNotWaitedFor(t *testing.T) {
	report := fakeBrowser(t, "@ stay")
	begun := time.Now()
	if err := OpenBrowser(loginURL); err != nil {
		t.Fatal(err)
	}
	if time.Since(begun) > 30*time.Second {
		t.Error("waited for the browser")
	}
	var lines []string
	for lines == nil { // the process has started; its report follows
		if time.Since(begun) > time.Minute {
			t.Fatal("no report of the browser")
		}
		lines = report()
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Errorf("the browser was gone: %v", err)
	}
}

func TestOnlyWebAddressesAreOpened(t *testing.T) {
	report := fakeBrowser(t, "@ go")
	for _, address := range []string{"", "--help", "file:///etc/passwd", "javascript:alert(1)", "https://", "calc.exe"} {
		if err := OpenBrowser(address); !errors.Is(err, ErrNoBrowser) || report() != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestBrowsersOfSystems(t *testing.T) {
	for _, c := range []struct {
		name, env, goos string
		want            [][]string
	}{
		{"linux", "", "linux", [][]string{{"xdg-open", "u"}}},
		{"mac", "", "darwin", [][]string{{"open", "u"}}},
		{"windows", "", "windows", [][]string{{"rundll32", "url.dll,FileProtocolHandler", "u"}}},
		{"windows path", `C:\Firefox\f.exe -u;"\\srv\My Apps\x.exe"`, "windows", [][]string{{`C:\Firefox\f.exe`, "-u", "u"}, {`\\srv\My Apps\x.exe`, "u"}}},
		{"list", "a %s:b 100%% x:", "linux", [][]string{{"a", "u"}, {"b", "100%", "x", "u"}}},
		{"empty commands", "::", "linux", [][]string{{"xdg-open", "u"}}},
	} {
		got, err := browsers(c.env, c.goos, "u")
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
}

func TestSplitCommands(t *testing.T) {
	for _, c := range []struct {
		in   string
		want [][]string
		bad  bool
	}{
		{in: "", want: nil},
		{in: "a b\tc", want: [][]string{{"a", "b", "c"}}},
		{in: `a\ b\:c:d`, want: [][]string{{"a b:c"}, {"d"}}},
		{in: `'a:b' "c:d"`, want: [][]string{{"a:b", "c:d"}}},
		{in: `"a\"b\\c\d"`, want: [][]string{{`a"b\c\d`}}},
		{in: `'a\'`, want: [][]string{{`a\`}}},
		{in: `a''b ''`, want: [][]string{{"ab", ""}}},
		{in: `$(x);y|z`, want: [][]string{{"$(x);y|z"}}},
		{in: `'a`, bad: true},
		{in: `"a`, bad: true},
		{in: `a\`, bad: true},
	} {
		got, err := splitCommands(c.in, ':', true)
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != c.bad {
			t.Errorf("%q: %v %s", c.in, err, diff)
		}
	}
}

func FuzzSplitCommands(f *testing.F) {
	f.Add("firefox %s:'my browser' -x", "a b", `c"d'e`)
	f.Add(`a\`, "", `\`)
	f.Add(`"x\y":`, ":", "\n")
	f.Add("\xff", "\xf0", "\xba\x83\xa5")
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	f.Fuzz(func(t *testing.T, garbage, one, two string) {
		for _, escapes := range []bool{true, false} {
			commands, err := splitCommands(garbage, ':', escapes)
			for _, c := range commands {
				if err != nil || len(c) == 0 {
					t.Errorf("%q: command %q with %v", garbage, c, err)
				}
			}
		}
		got, err := splitCommands(quote(one)+" "+quote(two)+":"+quote(two), ':', true)
		if diff := cmp.Diff([][]string{{one, two}, {two}}, got); diff != "" || err != nil {
			t.Errorf("round trip: %v %s", err, diff)
		}
	})
}
