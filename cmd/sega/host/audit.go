//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"sega/broker/api"
)

// auditTime bounds the question about one batch.
const auditTime = time.Minute

// Bypass is a login that no recording covers.
type Bypass struct {
	api.HostLogin
	Why string `json:"why"`
}

// Audited says what a reading of a log has come to.
type Audited struct {
	Logins  int
	LeftOut int // that nothing covers, and that the broker's log does not have yet: of a host it takes so many in a while
	Unread  int // lines about logins, it seems, in a form that is not known
}

// Audit reads sshd's log and hands on each login that no recording covers.
// The daemon asks the broker where it runs, for a session of its own would end the daemon's.
func Audit(ctx context.Context, dir, userAgent string, log io.Reader, found func(Bypass) error) (a Audited, err error) {
	c, err := Load(dir)
	if err != nil {
		return a, err
	}
	a.Unread, err = newLogReader().read(log, func(batch []api.HostLogin) error {
		a.Logins += len(batch)
		v, err := c.covered(ctx, userAgent, batch)
		if err != nil {
			return err
		}
		a.LeftOut += v.LeftOut
		for i, v := range v.Verdicts {
			if v.Covered {
				continue
			}
			if err := found(Bypass{HostLogin: batch[i], Why: v.Why}); err != nil {
				return err
			}
		}
		return nil
	})
	return a, err
}

// covered asks about a batch, by the daemon or without it.
func (c Config) covered(ctx context.Context, userAgent string, batch []api.HostLogin) (v api.HostVerdicts, err error) {
	owner, err := ownerOf(c.file(configName))
	if err != nil {
		return v, err
	}
	r, err := ask(c.Socket, owner, request{Op: opAudit, Logins: batch}, auditTime)
	var gone *net.OpError
	switch {
	case err == nil && r.Why != "":
		return v, errors.New(r.Why)
	case err == nil && len(r.Verdicts) == len(batch):
		return api.HostVerdicts{Verdicts: r.Verdicts, LeftOut: r.LeftOut}, nil
	case err == nil:
		return v, errors.New("the daemon has answered about other logins")
	case !errors.As(err, &gone) || gone.Op != "dial":
		return v, fmt.Errorf("ask the daemon: %w", err)
	}
	key, err := machineKey(c.file(keyName))
	if err != nil {
		return v, err
	}
	m, err := newMachine(c, key, userAgent)
	if err != nil {
		return v, err
	}
	defer m.client.Close()
	return m.audit(ctx, batch)
}

func (m *machine) audit(ctx context.Context, batch []api.HostLogin) (api.HostVerdicts, error) {
	return with(ctx, m, func(ctx context.Context) (api.HostVerdicts, error) {
		return m.client.HostAudit(ctx, api.HostLogins{Logins: batch})
	})
}

// Journal reads what sshd has written to systemd's journal, since a time as journalctl takes it; "" for all. Only what root
// has written counts (systemd.journal-fields(7), _UID): anybody may write under sshd's name.
func Journal(ctx context.Context, since string, read func(io.Reader) error) error {
	args := []string{"--identifier=sshd", "--identifier=sshd-session", "--output=short-iso", "--no-pager", "--quiet", "_UID=0"}
	if since != "" {
		args = append(args, "--since="+since)
	}
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := &countingReader{r: out}
	readErr := read(lines)
	if readErr != nil {
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	if readErr == nil && lines.n == 0 {
		return anyJournal(ctx)
	}
	return readErr
}

// anyJournal keeps a machine that keeps no journal from looking like one into which nobody has logged in.
func anyJournal(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "journalctl", "--lines=1", "--output=cat", "--no-pager", "--quiet").Output()
	if err == nil && len(out) == 0 {
		return errors.New("this machine keeps no journal\nname the file that sshd logs to: sega host audit /var/log/auth.log")
	}
	return err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
