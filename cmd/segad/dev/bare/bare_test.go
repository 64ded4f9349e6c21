//go:build linux

package bare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBare runs every case bare and as sega runs it: what comes out is the same, to the byte and to
// the wait status.
func TestBare(t *testing.T) {
	w := newWorld(t)
	for _, group := range []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"state", testState}, {"signal", testSignal}, {"code", testCode}, {"start", testStart}, {"stream", testStream},
		{"outlive", testOutlive}, {"outside", testOutside}, {"environment", testEnvironment}, {"nested", testNested}, {"shell", testShell}, {"terminal", testTerminal}, {"sub-shell", testSubShell},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, w.on(t)) })
	}
}

// compare runs one case in every mode. want is how the bare one ends: a case that does not do what it
// is for compares nothing.
func compare(t *testing.T, w *world, x trial, want string, argv ...string) {
	t.Helper()
	var bare ended
	for i, m := range modes {
		x.w, x.prefix = w.on(t), m.prefix
		got := x.run(t, argv...)
		got.Out, got.Err = strings.ReplaceAll(got.Out, x.w.dir, "DIR"), strings.ReplaceAll(got.Err, x.w.dir, "DIR")
		if i == 0 {
			if bare = got; got.How != want {
				t.Fatalf("the bare command ends with %s, want %s\n%s%s", got.How, want, got.Out, got.Err)
			}
			continue
		}
		if diff := cmp.Diff(bare, got); diff != "" {
			t.Errorf("%s: -bare +sega\n%s", m.name, diff)
		}
	}
}

// testState compares everything that a process can tell of itself when it starts.
func testState(t *testing.T, w *world) {
	for name, x := range map[string]trial{
		"as it is":                  {},
		"stdin closed":              {setup: []string{"close=0"}},
		"stderr closed":             {setup: []string{"close=2"}},
		"stdin and stderr closed":   {setup: []string{"close=0", "close=2"}},
		"null opened by others":     {setup: []string{"null=0", "null=2"}},
		"files of its own":          {setup: []string{"open=3", "open=9", "open=63"}},
		"stdin does not block":      {setup: []string{"nonblock=0"}, stdin: strings.NewReader("x")},
		"file limit":                {setup: []string{"nofile=256"}},
		"file limit at its end":     {setup: []string{"nofile=max"}},
		"core files":                {setup: []string{"core=max"}},
		"no core files":             {setup: []string{"core=0"}},
		"stack limit":               {setup: []string{"stack=16777216"}},
		"umask":                     {setup: []string{"umask=077"}},
		"umask of nothing":          {setup: []string{"umask=0"}},
		"nice":                      {setup: []string{"nice=7"}},
		"batch scheduling":          {setup: []string{"sched=3"}},
		"an alarm":                  {setup: []string{"alarm=1000"}},
		"subreaper":                 {setup: []string{"subreaper=1"}},
		"no new privileges":         {setup: []string{"nonewprivs=1"}},
		"timer slack":               {setup: []string{"slack=12345"}},
		"another folder":            {setup: []string{"cd=/usr"}},
		"a folder that is gone":     {setup: []string{"gone=gone"}},
		"session leader":            {setup: []string{"setsid=1"}},
		"group leader":              {setup: []string{"setpgid=1"}},
		"new session by the caller": {attr: syscall.SysProcAttr{Setsid: true}},
		"nohup":                     {setup: []string{"ignore=1"}},
		"background of a script":    {setup: []string{"ignore=2", "ignore=3"}},
		"a service of systemd":      {setup: []string{"ignore=13"}},
		"children reap themselves":  {setup: []string{"ignore=17"}},
		"everything ignored":        {setup: ignoreAll()},
		"everything blocked":        {setup: blockAll()},
		"both":                      {setup: append(ignoreAll(), blockAll()...)},
		"blocked and pending":       {setup: []string{"block=10", "pending=10", "block=12", "pending=12"}},
	} {
		t.Run(name, func(t *testing.T) { compare(t, w, x, "exit 0", w.probe, "state") })
	}
}

// signals are all but SIGKILL and SIGSTOP, with the first and the last that have no name.
func signals() (all []int) {
	for s := 1; s <= 31; s++ {
		if s != int(syscall.SIGKILL) && s != int(syscall.SIGSTOP) {
			all = append(all, s)
		}
	}
	return append(all, 34, 35, 64)
}

func ignoreAll() (setup []string) {
	for _, s := range signals() {
		setup = append(setup, fmt.Sprintf("ignore=%d", s))
	}
	return setup
}

func blockAll() (setup []string) {
	for _, s := range signals() {
		setup = append(setup, fmt.Sprintf("block=%d", s))
	}
	return setup
}

// testSignal has a command kill itself by every signal, and has it ignored before.
func testSignal(t *testing.T, w *world) {
	const stops = "20 21 22"
	ignoredByDefault := map[int]bool{int(syscall.SIGCHLD): true, int(syscall.SIGCONT): true, int(syscall.SIGURG): true, int(syscall.SIGWINCH): true}
	for _, s := range append(signals(), int(syscall.SIGKILL)) {
		number := fmt.Sprint(s)
		if strings.Contains(stops, number) && len(number) == 2 {
			continue // under a terminal
		}
		want := "signal " + number + ", core false"
		if ignoredByDefault[s] {
			want = "exit 3"
		}
		t.Run(number, func(t *testing.T) { compare(t, w, trial{setup: []string{"core=0"}}, want, w.probe, "kill", number) })
		if s == int(syscall.SIGKILL) {
			continue
		}
		t.Run(number+" ignored", func(t *testing.T) {
			compare(t, w, trial{setup: []string{"ignore=" + number}}, "exit 3", w.probe, "kill", number)
		})
	}
}

func testCode(t *testing.T, w *world) {
	for _, code := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 42, 99, 125, 126, 127, 128, 129, 130, 137, 143, 254, 255} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			compare(t, w, trial{}, fmt.Sprintf("exit %d", code), w.probe, "exit", fmt.Sprint(code))
		})
	}
}

// testStart starts what shells find, and what they do not.
func testStart(t *testing.T, w *world) {
	bin := filepath.Join(t.TempDir(), "bin")
	for name, text := range map[string]string{"script": "#!/bin/sh\necho script \"$0\" \"$@\"\n", "bare": "echo bare \"$0\" \"$@\"\n", "empty": "", "lost": "#!/no/such/interpreter\n", "first/x": "#!/bin/sh\necho first\n"} {
		path := filepath.Join(bin, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "text"), []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := []string{"cd=" + bin}
	for name, c := range map[string]struct {
		setup []string
		argv  []string
		want  string
	}{
		"script":                   {in, []string{"./script", "a b", ""}, "exit 0"},
		"script without a shebang": {in, []string{"./bare", "a b", ""}, "exit 0"},
		"empty file":               {in, []string{"./empty"}, "exit 0"},
		"by an empty PATH":         {append([]string{"put=X", "unset=PATH", "put=PATH="}, in...), []string{"script", "x"}, "exit 0"},
		"by a relative PATH":       {append([]string{"unset=PATH", "put=PATH=first:."}, in...), []string{"x"}, "exit 0"},
		"without a PATH":           {append([]string{"unset=PATH"}, in...), []string{"true"}, "exit 0"},
		"arguments":                {nil, []string{w.probe, "argv", "", "a\nb", "\xff\xfe", "--", "-x", "*", "a'b\"c", strings.Repeat("x", 100_000)}, "exit 0"},
		"options after --":         {nil, []string{w.probe, "argv", "--help", "--env", "--reason", "x"}, "exit 0"},
	} {
		t.Run(name, func(t *testing.T) {
			var bare ended
			for i, m := range modes {
				prefix := m.prefix
				if len(prefix) > 0 { // found without the PATH that is tried
					prefix = append([]string{filepath.Join(w.Bin, "sega")}, prefix[1:]...)
				}
				got := trial{w: w.on(t), prefix: prefix, setup: c.setup}.run(t, c.argv...)
				if i == 0 {
					if bare = got; got.How != c.want {
						t.Fatalf("bare: %+v", got)
					}
				} else if diff := cmp.Diff(bare, got); diff != "" {
					t.Errorf("%s: -bare +sega\n%s", m.name, diff)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		argv []string
		want string
	}{
		"not there":              {[]string{"no-such-command"}, "exit 127"},
		"not there, with a path": {[]string{"./no-such-command"}, "exit 127"},
		"nothing":                {[]string{""}, "exit 127"},
		"no program":             {[]string{"./text"}, "exit 126"},
		"a folder":               {[]string{"/usr"}, "exit 126"},
		"no interpreter":         {[]string{"./lost"}, "exit 127"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, m := range modes {
				got := trial{w: w.on(t), prefix: m.prefix, setup: in}.run(t, c.argv...)
				if got.How != c.want || got.Out != "" || m.prefix != nil && !strings.HasPrefix(got.Err, "sega: ") {
					t.Errorf("%s: %+v", m.name, got)
				}
			}
		})
	}
}
