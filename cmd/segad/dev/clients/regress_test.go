//go:build linux

package clients

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runTests is OpenSSH's own suite, as Debian's openssh-tests installs it.
const runTests = "/usr/lib/openssh/regress/run-tests"

// through is ssh for that suite: the host names that it makes up are our host, and its own configuration and
// server stay out of it.
const through = `#!/bin/bash
args=()
while [ $# -gt 0 ]; do
  case $1 in
  -F) shift ;;
  somehost | thishost | nexthost | otherhost) args+=("$SEGA_HOST") ;;
  *) args+=("$1") ;;
  esac
  shift
done
exec /usr/bin/ssh -F "$SEGA_CONFIG" "${args[@]}"
`

// regressRows are the scripts that try a session from the client's side. The others try sshd's own configuration, or never leave
// the machine (scp and sftp there run without ssh); multiplex.sh wants forwards and variables that a host must be set up for.
func regressRows() []row {
	var out []row
	for _, r := range []row{
		{use: "exit-status-signal"}, {use: "broken-pipe", more: true},
		{use: "stderr-after-eof", more: true}, {use: "exit-status", more: true}, {use: "transfer", more: true}, {use: "stderr-data", more: true}, {use: "yes-head", more: true},
	} {
		r.client, r.needs, r.run, r.commands = "regress", []string{runTests, "make", "bash"}, regress(r.use), []string{"exec "}
		out = append(out, r)
	}
	return out
}

func regress(script string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		wrapper := w.save(t, "ssh", through)
		if err := os.Chmod(wrapper, 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		c := w.Command(ctx, runTests, filepath.Dir(w.fresh(t, "x")), "t-exec", "LTESTS="+script, "INTEROP_TESTS=", "EXTRA_TESTS=", "SUDO=", "TEST_SSH_SSH="+wrapper)
		c.Env = append(c.Env, "SEGA_CONFIG="+w.config, "SEGA_HOST="+w.Host.Name)
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		if err := c.Run(); err != nil || !strings.Contains(said.String(), "\nok ") {
			t.Errorf("%s: %v\n%s", script, err, said.String())
		}
	}
}
