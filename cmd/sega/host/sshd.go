//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sshdTime bounds a run of `sshd -t`, and how long a reload may take.
const sshdTime = 10 * time.Second

// snippet is our file of sshd's configuration. Of each keyword sshd takes the first value that it reads, so what
// is not to be somebody else's stands here with "none".
func (c Config) snippet() []byte {
	var b strings.Builder
	b.WriteString("# Written by sega host: changes are lost. `sega host leave` takes it away.\n")
	line := func(words ...string) { b.WriteString(strings.Join(words, " ") + "\n") }
	if c.PlainKeys {
		line("AuthorizedKeysCommand", c.call("keys")+" -- %u")
		line("AuthorizedKeysCommandUser", c.User)
		return []byte(b.String())
	}
	line("TrustedUserCAKeys", c.file(hopCAsName))
	line("HostCertificate", c.Certificate)
	line("RevokedKeys", c.file(krlName))
	if c.By == ByFile {
		line("AuthorizedPrincipalsFile", c.file(principalsName)+"/%u")
		line("AuthorizedPrincipalsCommand", "none")
		return []byte(b.String())
	}
	line("AuthorizedPrincipalsFile", "none")
	line("AuthorizedPrincipalsCommand", c.call("check")+" -- %u %s %F %i")
	line("AuthorizedPrincipalsCommandUser", c.User)
	return []byte(b.String())
}

// call is how sshd runs a command of ours.
func (c Config) call(command string) string {
	out := c.Sega + " host " + command
	if c.dir != Dir {
		out += " --dir " + c.dir
	}
	return out
}

// plainPath refuses what sshd's own parser would read as several words or as one of its tokens.
func plainPath(what, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("%s: %q is not a whole path", what, path)
	}
	if strings.ContainsAny(path, " \t\r\n\"'%#\\") {
		return fmt.Errorf("%s: %q holds what sshd's configuration does not take", what, path)
	}
	return nil
}

// effective is sshd's configuration as it would have it now: for each keyword, in lower case, its values.
type effective map[string][]string

// effective asks sshd, which reads the host's keys for that.
func (c Config) effective(ctx context.Context) (effective, error) {
	out, err := c.sshd(ctx, "-T")
	if err != nil {
		return nil, err
	}
	e := effective{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		e[key] = append(e[key], value)
	}
	return e, nil
}

func (e effective) is(keyword, value string) bool { return slices.Equal(e[keyword], []string{value}) }

// sshd runs sshd over its configuration and returns what it prints; an error says what it said.
func (c Config) sshd(ctx context.Context, flag string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sshdTime)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, c.SSHD, flag, "-f", c.SSHDConfig)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("sshd %s: %w: %s", flag, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// took checks that sshd has taken our file over: another file before it may have said something else.
func (c Config) took(e effective) error {
	want := map[string]string{"trustedusercakeys": c.file(hopCAsName), "revokedkeys": c.file(krlName), "authorizedprincipalsfile": "none", "authorizedprincipalscommand": c.call("check") + " -- %u %s %F %i"}
	switch {
	case c.PlainKeys:
		want = map[string]string{"authorizedkeyscommand": c.call("keys") + " -- %u"}
	case c.By == ByFile:
		want["authorizedprincipalsfile"], want["authorizedprincipalscommand"] = c.file(principalsName)+"/%u", "none"
	}
	for keyword, value := range want {
		if !e.is(keyword, value) {
			return fmt.Errorf("sshd has %s %q, and not %q: another file of its configuration comes first, or %s does not include %s",
				keyword, strings.Join(e[keyword], " "), value, c.SSHDConfig, c.Snippet)
		}
	}
	if !c.PlainKeys && !slices.Contains(e["hostcertificate"], c.Certificate) {
		return fmt.Errorf("sshd shows no host certificate %s: it has %q", c.Certificate, e["hostcertificate"])
	}
	return nil
}

// errReload is for an sshd that is not as before after a reload.
var errReload = errors.New("sshd was told to read its configuration anew, and has not come back")

// reload has a running sshd read its configuration anew, after `sshd -t` has found it good. None that runs
// is no error: it reads it when it starts.
func (c Config) reload(ctx context.Context, e effective) (running bool, err error) {
	look, was, err := findSSHD(e)
	if err != nil || was.pid == 0 {
		return false, err
	}
	if err := syscall.Kill(was.pid, syscall.SIGHUP); err != nil {
		return false, fmt.Errorf("tell sshd (process %d) to read its configuration: %w", was.pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, sshdTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for { // it starts itself anew under its process ID
		if now, err := look(); err == nil && now.pid != 0 && now.mark != was.mark {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return true, errReload
		case <-tick.C:
		}
	}
}
