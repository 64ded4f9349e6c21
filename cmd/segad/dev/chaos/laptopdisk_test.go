//go:build linux

package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// laptopDisk is of a small home.
const laptopDisk = 1 << 20

// onDisk moves a laptop's home, AWS's files included, to a file system of its own.
func (l *laptop) onDisk(t *testing.T) (disk, config string) {
	t.Helper()
	disk = mountDisk(t, laptopDisk)
	l.Home = filepath.Join(disk, "home")
	config = filepath.Join(disk, "config")
	writeFile(t, config, []byte("# mine\n[profile mine]\nregion = eu-west-1\n"))
	l.env = append(l.env, "AWS_CONFIG_FILE="+config, "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "TMPDIR="+t.TempDir())
	t.Cleanup(func() { l.stopAgent(t) }) // before the disk goes
	return disk, config
}

// fill takes all space that is left, and returns what gives it back.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	b := fillDisk(t, disk)
	return func() { b.free(t) }
}

// cannotWrite makes sure of what a disk that takes nothing costs: all that must write fails so, and nothing else.
func (l *laptop) cannotWrite(t testing.TB, withAgent bool, fails failure) {
	t.Helper()
	other := fails
	other.hint = "disk"
	for _, args := range [][]string{{"credential-process", "dev-admin"}, {"credential-process", "dev-admin", "-d", "30m"}, {"exec", "dev-admin", "--", "true"}} {
		if withAgent {
			l.does(t, args...)
		} else { // what this machine has seen of the log is kept before anything is handed out
			l.fails(t, other, args...)
		}
	}
	l.fails(t, other, "configure")
	l.fails(t, fails, "login")
}

// TestDiskIsFull has a laptop's disk full, and then to be read only: what must write says so, what need not works,
// and what was there is as it was.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	r, _ := newLaptops(t, nil)
	for harm, h := range map[string]struct {
		do         func(*testing.T, string) (undo func())
		says, hint string
	}{
		"full":      {fill, "no space left on device", "free the disk"},
		"read-only": {readOnly, "read-only file system", "SEGA_HOME"},
	} {
		for name, withAgent := range days {
			t.Run(harm+"/"+name, func(t *testing.T) {
				l := r.laptop(t, "alice@example.com", withAgent)
				disk, config := l.onDisk(t)
				fails := failure{1, h.says, h.hint, atOnce}
				undo := h.do(t, disk)
				l.fails(t, fails, "login")
				undo()
				l.does(t, "login")
				l.works(t)
				before := l.assumed(t)

				undo = h.do(t, disk)
				l.does(t, "status")
				l.cannotWrite(t, withAgent, fails)
				undo()
				l.works(t)
				if text, err := os.ReadFile(config); err != nil || !strings.HasPrefix(string(text), "# mine\n") || strings.Contains(string(text), "sega") {
					t.Errorf("the AWS configuration is %q, %v", text, err)
				}
				if n := l.assumed(t) - before; n > 2 {
					t.Errorf("%d sessions at AWS for one question", n)
				}
				l.does(t, "configure")

				undo = h.do(t, disk)
				// What lies there cannot be removed; the broker knows it no more.
				l.fails(t, failure{1, "the session has ended, but what is stored on this machine was not removed", h.hint, atOnce}, "logout")
				if o := l.run("exec", "dev-admin", "--", "true"); o.Code == 0 {
					t.Error("the session outlives its logout")
				}
				undo()
				l.fails(t, failure{4, "", "sega login", atOnce}, "exec", "dev-admin", "--", "true")
				l.whole(t)
				l.does(t, "login")
				l.works(t)
			})
		}
	}
}
