//go:build unix

package keychain

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeSecurity is the folder of a keychain that the test's own binary plays security(1) on, when
// it is started with that folder in the environment.
const fakeSecurity = "KEYCHAIN_FAKE_SECURITY"

// playSecurity never returns in a process that is security(1).
func playSecurity() {
	if dir := os.Getenv(fakeSecurity); dir != "" && len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(securityMain(dir, os.Args[1:], os.Stdin, os.Stdout))
	}
}

// fakeItem is a generic password.
type fakeItem struct{ Label, Kind, Password string }

// securityMain is security(1), as far as sega needs it and no further: what it does not know is an error.
func securityMain(dir string, args []string, in io.Reader, out io.Writer) int {
	noteCall(dir, args)
	if code, err := os.ReadFile(filepath.Join(dir, "fails")); err == nil {
		var n int
		if _, err := fmt.Sscan(string(code), &n); err != nil {
			return 1
		}
		return n
	}
	if _, err := os.Stat(filepath.Join(dir, "hangs")); err == nil {
		time.Sleep(time.Hour) // a dialog that nobody answers
	}
	if !slices.Equal(args, []string{"-i"}) {
		return securityCommand(dir, args, out)
	}
	status := 0
	r := bufio.NewReaderSize(in, securityLineLen)
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return status // what is not ended by a line feed is not read
		}
		if err != nil {
			return 1
		}
		if status = securityCommand(dir, splitLine(string(line)), out); status != 0 {
			fmt.Fprintf(os.Stderr, "returned %d\n", status)
		}
	}
}

// noteCall remembers what a process listing shows.
func noteCall(dir string, args []string) {
	f, err := os.OpenFile(filepath.Join(dir, "argv"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%q\n", args)
}

func securityCommand(dir string, args []string, out io.Writer) int {
	if len(args) == 0 {
		return 0
	}
	flags, ok := securityFlags(args[1:])
	path := filepath.Join(dir, "item-"+flags["-s"]+"-"+flags["-a"])
	switch {
	case !ok:
		return 2
	case args[0] == "find-generic-password":
		data, err := os.ReadFile(path)
		if err != nil {
			return 44
		}
		var item fakeItem
		if err := json.Unmarshal(data, &item); err != nil {
			return 1
		}
		fmt.Fprintln(out, item.Password)
		return 0
	case args[0] == "add-generic-password":
		if _, update := flags["-U"]; !update {
			return 45
		}
		data, err := json.Marshal(fakeItem{flags["-l"], flags["-D"], flags["-w"]})
		if err != nil || os.WriteFile(path, data, 0o600) != nil {
			return 1
		}
		return 0
	}
	return 1
}

// securityFlags reads the options: -w has a value in add alone, where it stands last.
func securityFlags(args []string) (map[string]string, bool) {
	flags := map[string]string{}
	for i := 0; i < len(args); i++ {
		name := args[i]
		switch {
		case name == "-U" || name == "-w" && i == len(args)-1:
			flags[name] = ""
		case slices.Contains([]string{"-s", "-a", "-l", "-D", "-w"}, name) && i+1 < len(args):
			i++
			flags[name] = args[i]
		default:
			return nil, false
		}
	}
	return flags, true
}

// splitLine takes a line apart as security's interactive mode does: white space between arguments, quotes of
// two kinds that begin an argument and end it, a backslash before a byte that is taken as it is, and
// no more than 32 arguments. What follows a closing quote at once is another argument.
func splitLine(line string) (args []string) {
	const space = " \t\n\v\f\r"
	for i := 0; i < len(line) && len(args) < securityArgs; {
		if strings.IndexByte(space, line[i]) >= 0 {
			i++
			continue
		}
		var quote byte
		if line[i] == '"' || line[i] == '\'' {
			quote = line[i]
			i++
		}
		var arg []byte
		for ; i < len(line); i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			} else if quote != 0 && line[i] == quote || quote == 0 && strings.IndexByte(space, line[i]) >= 0 {
				i++
				break
			}
			arg = append(arg, line[i])
		}
		args = append(args, string(arg))
	}
	return args
}

// newFakeKeychain returns a keychain that the fake security keeps in dir.
func newFakeKeychain(t *testing.T) (k appleKeychain, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	t.Setenv(fakeSecurity, dir)
	return appleKeychain{program{name: self, patience: time.Minute}}, dir
}

func TestSplitLine(t *testing.T) {
	for in, want := range map[string][]string{
		"":                            nil,
		"  \t\n":                      nil,
		"a b\tc\n":                    {"a", "b", "c"},
		`"a b" 'c d'`:                 {"a b", "c d"},
		`"it's" 'say "x"'`:            {"it's", `say "x"`},
		`"a\"b\\c" 'd\'e' f\ g\\`:     {`a"b\c`, `d'e`, `f g\`},
		`"" ''`:                       {"", ""},
		`a"b c"`:                      {`a"b`, `c"`},
		`"a"b`:                        {"a", "b"},
		"\"never ended\n":             {"never ended\n"},
		strings.Repeat("x ", 40):      slices.Repeat([]string{"x"}, 32),
		"add -w \"$(id) `id` ;|&\"\n": {"add", "-w", "$(id) `id` ;|&"},
	} {
		if d := cmp.Diff(want, splitLine(in)); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func FuzzSecurityLine(f *testing.F) {
	f.Add("add-generic-password", "key of sega's secrets", `a "quoted" \ one`)
	f.Add("", " ", "'")
	f.Add("a\nquit", "\x00", strings.Repeat(`"`, 3000))
	f.Add(`\`, `\"`, "\t\v\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		args := []string{a, b, c}
		line, err := securityLine(args...)
		if err != nil {
			if !strings.ContainsAny(a+b+c, "\n\x00") && 2*len(a+b+c)+9 < securityLineLen {
				t.Fatalf("%q is refused: %v", args, err)
			}
			return
		}
		if strings.Index(line, "\n") != len(line)-1 || len(line) >= securityLineLen {
			t.Fatalf("%q is more than one line of security", line)
		}
		if d := cmp.Diff(args, splitLine(line)); d != "" {
			t.Fatalf("%q: %s", line, d)
		}
	})
}

func TestSecurityLineRefuses(t *testing.T) {
	for name, args := range map[string][]string{"nothing": nil, "a line feed": {"a\nb"}, "a zero byte": {"a\x00"},
		"too long": {strings.Repeat("x", 4093)}, "too many": make([]string, 33)} {
		if line, err := securityLine(args...); err == nil {
			t.Errorf("%s: %q", name, line)
		}
	}
	if _, err := securityLine(strings.Repeat("x", 4092)); err != nil {
		t.Errorf("the longest line: %v", err)
	}
}

func TestAppleKeychain(t *testing.T) {
	k, dir := newFakeKeychain(t)
	if _, err := k.load("0011223344556677"); !errors.Is(err, errNoItem) {
		t.Errorf("before: %v", err)
	}
	for range 2 { // the second time in the place of the first
		if err := keep(k, "0011223344556677", testKey()); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.TrimSpace(formatKey(testKey()))
	data, err := os.ReadFile(filepath.Join(dir, "item-sega-0011223344556677"))
	if err != nil {
		t.Fatal(err)
	}
	var got fakeItem
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fakeItem{"sega", "key of sega's secrets on this machine", text}, got); d != "" {
		t.Error(d)
	}
	argv, err := os.ReadFile(filepath.Join(dir, "argv"))
	if err != nil || !strings.Contains(string(argv), "find-generic-password") || strings.Contains(string(argv), text) {
		t.Errorf("arguments: %v\n%s", err, argv)
	}
}

func TestAppleKeychainRefuses(t *testing.T) {
	for code, want := range map[string]string{"36": errLocked.Error(), "29": errLocked.Error(), "51": errDismissed.Error(), "128": errDismissed.Error(),
		"50": "no login keychain", "37": "no login keychain", "44": errNoItem.Error(), "1": "exit status 1", "2": "exit status 2"} {
		t.Run(code, func(t *testing.T) {
			k, dir := newFakeKeychain(t)
			if err := os.WriteFile(filepath.Join(dir, "fails"), []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			_, loadErr := k.load("aa")
			for what, err := range map[string]error{"load": loadErr, "save": k.save("aa", testKey())} {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), strings.TrimSpace(formatKey(testKey()))) {
					t.Errorf("%s: %v, want %q", what, err, want)
				}
			}
		})
	}
	t.Run("a dialog that nobody answers", func(t *testing.T) {
		k, dir := newFakeKeychain(t)
		if err := os.WriteFile(filepath.Join(dir, "hangs"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k.program.patience = 200 * time.Millisecond
		if _, err := k.load("aa"); !errors.Is(err, errSilent) {
			t.Errorf("load: %v", err)
		}
		if err := k.save("aa", testKey()); !errors.Is(err, errSilent) {
			t.Errorf("save: %v", err)
		}
	})
	t.Run("what it keeps is no key", func(t *testing.T) {
		k, dir := newFakeKeychain(t)
		if err := os.WriteFile(filepath.Join(dir, "item-sega-aa"), []byte(`{"Password":"hunter2"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.load("aa"); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAppleKeychainsTime(t *testing.T) {
	for connection, want := range map[string]time.Duration{"": personTime, "192.0.2.1 22": answerTime} {
		t.Setenv("SSH_CONNECTION", connection)
		want := appleKeychain{program{name: "/usr/bin/security", patience: want}}
		if got := newAppleKeychain(); got != keyStore(want) {
			t.Errorf("%q: %+v", connection, got)
		}
	}
}
