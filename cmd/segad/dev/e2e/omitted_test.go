//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// TestFilesByPolicy: where policy says so a session's recording lacks the bytes of files, everything that
// shows or judges it says so, and nothing calls it complete; SFTP that may only read changes nothing.
func TestFilesByPolicy(t *testing.T) {
	t.Parallel()
	e := devtest.Up(t)
	p, s, reviewer := e.LoggedIn(alice), e.LoggedIn(sam), e.LoggedIn(carol)
	write(t, filepath.Join(e.Data, "policy", "trial.cedar"), `
@id("omit") permit (principal, action == Action::"omitContent", resource);
@id("read-only") @reason("files are only read") forbid (principal, action == Action::"connect", resource) when { context.channel == "sftp-write" };`)
	awaitReload(t, s, "success", 0)
	dir := t.TempDir()
	config := write(t, filepath.Join(dir, "config"), p.Sega("configure", "--ssh", "--print").Out)
	secret := "4111 1111 1111 1111"
	cards := write(t, filepath.Join(dir, "cards"), strings.Repeat(secret+"\n", 10_000))
	batch := write(t, filepath.Join(dir, "batch"), fmt.Sprintf("get %s %s/back\n-put %[1]s %[2]s/there\n", cards, dir))
	r := p.Run("sftp", "-F", config, "-b", batch, e.Host.Name)
	expect(t, r, 0, "Permission denied")
	if _, err := os.Stat(filepath.Join(dir, "there")); err == nil {
		t.Error("a file was written")
	}
	var id string
	devtest.Eventually(t, 10*time.Second, "no end of the session", func() error {
		ends := reviewer.Events("--kind", "session.end", "--user", alice)
		if len(ends) != 1 {
			return fmt.Errorf("there are %d", len(ends))
		}
		id = field(ends[0], "session_id")
		if v := field(ends[0], "details.recording.verdict"); v != "content left out" {
			t.Errorf("the log says %q", v)
		}
		return nil
	})
	expect(t, reviewer.Sega("audit", "show", id), 0, "content left out", "files")
	expect(t, reviewer.Sega("audit", "verify"), 0, "1 of them not complete: policy had content of files left out")
	const notice = "policy had bytes of files left out of this recording"
	for _, stream := range []string{"in", "out"} {
		x := reviewer.Sega("audit", "export", id, "--format", "raw", "--stream", stream, "--reason", "INC-9")
		if expect(t, x, 0, notice); strings.Contains(x.Out, secret[:9]) {
			t.Errorf("%s holds bytes of the file", stream)
		}
	}
	expect(t, reviewer.Sega("audit", "play", id, "--reason", "INC-9", "--instant"), 0, notice)
	for kind, outcome := range map[string]string{"sftp.read": "success", "sftp.write": "denied"} {
		if got := reviewer.Events("--kind", kind, "--session", id); len(got) != 1 || field(got[0], "outcome") != outcome {
			t.Errorf("%s: %v", kind, got)
		}
	}
}
