//go:build unix

package keychain

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakePass is a pass(1) that keeps entries as files and shows a test how it was called.
const fakePass = `#!/bin/sh
printf '%s\n' "$*" >> "$PASS_DIR/calls"
case "$1" in
show) f="$PASS_DIR/$(printf '%s' "$2" | tr / _)"
  if [ -f "$f" ]; then cat "$f"; else echo "Error: $2 is not in the password store." >&2; exit 1; fi ;;
insert) cat > "$PASS_DIR/$(printf '%s' "$4" | tr / _)" ;;
esac
`

func installPass(t *testing.T, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("PASS_DIR", dir)
	return dir
}

func TestPass(t *testing.T) {
	dir := installPass(t, fakePass)
	s := newStore(t, func(c *Config) { c.Backend = BackendPass })
	put(t, s, "a", "1")
	wantItem(t, reopen(t, s), "a", "1")
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(calls), strings.TrimSpace(formatKey(s.held.key))) {
		t.Error("the key was an argument")
	}
	if _, err := (passStore{program: program{name: "pass", patience: time.Minute}}).load("ffff"); !errors.Is(err, errNoItem) {
		t.Errorf("got %v", err)
	}
}

func TestPassThatFails(t *testing.T) {
	installPass(t, "#!/bin/sh\necho 'gpg: no secret key' >&2\nexit 2\n")
	if err := (passStore{program: program{name: "pass", patience: time.Minute}}).save("aa", parsedTestKey(t)); err == nil || !strings.Contains(err.Error(), "no secret key") {
		t.Errorf("got %v", err)
	}
	installPass(t, "#!/bin/sh\nexec sleep 60\n")
	if _, err := (passStore{program: program{name: "pass", patience: 50 * time.Millisecond}}).load("aa"); !errors.Is(err, errSilent) {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := (passStore{program: program{name: "pass", patience: time.Minute}}).load("aa"); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("got %v", err)
	}
}
