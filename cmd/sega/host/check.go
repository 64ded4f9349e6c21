//go:build linux

package host

import (
	"fmt"
	"io"
	"log/syslog"
	"time"
)

// Check answers sshd: it prints the principal that opens the login, or nothing. It asks no network, and
// changes nothing, for sshd asks twice a login. Without the daemon the last bundle on the disk holds; where that is
// broken, nobody comes in.
func Check(dir string, q Question, out io.Writer, say func(string)) error {
	principal, err := verdict(dir, q, say)
	if err != nil {
		say(fmt.Sprintf("login of %q refused: %s (serial %.20q, key ID %.200q)", q.Login, err, q.Serial, q.KeyID))
		return nil // an error would tell sshd no more than silence does
	}
	_, err = fmt.Fprintln(out, principal)
	return err
}

// verdict asks the daemon, else reads the disk.
func verdict(dir string, q Question, say func(string)) (string, error) {
	c, err := Load(dir)
	if err != nil {
		return "", err
	}
	owner, err := ownerOf(c.file(configName))
	if err != nil {
		return "", err
	}
	r, err := ask(c.Socket, owner, request{Op: opCheck, Question: q}, askTime)
	if err == nil {
		if r.Principal == "" {
			return "", fmt.Errorf("%s", r.Why)
		}
		return r.Principal, nil
	}
	v, diskErr := readBundle(c.file(bundleName))
	if diskErr != nil {
		return "", fmt.Errorf("the daemon does not answer, and %w", diskErr)
	}
	say(fmt.Sprintf("the daemon does not answer (%s): the %s holds", err, v.in(time.Now())))
	return v.judge(q)
}

// Syslog writes a line to the system's log, where there is one, as sshd does.
func Syslog(line string) {
	w, err := syslog.New(syslog.LOG_AUTH|syslog.LOG_WARNING, "sega-host")
	if err != nil {
		return
	}
	_ = w.Warning(line)
	_ = w.Close()
}
