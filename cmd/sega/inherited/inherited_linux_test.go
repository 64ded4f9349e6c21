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
	const script = `trap '' PIPE; exec "$1" /bin/sh -c 'grep -E "^Sig(Ign|Blk)" /proc/self/status; [ -e /proc/self/fd/0 ] && echo open || echo closed' <&-`
	for name, c := range map[string]struct {
		flags, want string
	}{
		"with the entry":    {"-E sega/cmd/sega/inherited.entry", "true false false 1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nclosed\n"},
		"without the entry": {"", "false false false 1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nopen\n"},
	} {
		t.Run(name, func(t *testing.T) {
			tell := filepath.Join(t.TempDir(), "tell")
			if out, err := exec.Command("go", "build", "-ldflags", c.flags, "-o", tell, "./testdata/tell").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			e := exec.Command("/usr/bin/env", "-i", "/bin/sh", "-c", script, "sh", tell)
			out, err := e.CombinedOutput()
			if err != nil || string(out) != c.want {
				t.Errorf("%v: %q, want %q", err, out, c.want)
			}
		})
	}
	if got, want := len(Environ()), len(os.Environ()); got != want {
		t.Errorf("%d variables, the runtime has %d", got, want)
	}
}
