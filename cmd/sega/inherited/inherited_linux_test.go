//go:build amd64 || arm64

package inherited

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestKept starts a program with what Go takes over, linked with the entry and without: without it nothing
// is known, and nothing worse happens. cmd/segad/dev/bare compares all of it.
func TestKept(t *testing.T) {
	// What the test itself was started with, like signals that its own runtime ignores, is in both.
	const look = `/bin/sh -c 'grep -E "^Sig(Ign|Blk)" /proc/self/status; [ -e /proc/self/fd/0 ] && echo open || echo closed'`
	const harm = `trap '' PIPE; exec `
	for name, c := range map[string]struct{ flags, says, bare string }{
		"with the entry":    {"-E sega/cmd/sega/inherited.entry", "true false false 1\n", harm + look + " <&-"},
		"without the entry": {"", "false false false 1\n", "exec " + look},
	} {
		t.Run(name, func(t *testing.T) {
			tell := filepath.Join(t.TempDir(), "tell")
			if out, err := exec.Command("go", "build", "-ldflags", c.flags, "-o", tell, "./testdata/tell").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := c.says + output(t, c.bare, tell)
			if got := output(t, harm+`"$1" `+look+" <&-", tell); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	if got, want := len(Environ()), len(os.Environ()); got != want {
		t.Errorf("%d variables, the runtime has %d", got, want)
	}
}

// output runs a script with a program as $1 and next to no environment.
func output(t *testing.T, script, program string) string {
	t.Helper()
	out, err := exec.Command("/usr/bin/env", "-i", "/bin/sh", "-c", script, "sh", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
