//go:build linux

package host

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sega/broker/api"
	"sega/sshca"
)

// keysTime bounds sshd's question about an account: a person waits.
const keysTime = 10 * time.Second

// Keys answers sshd's AuthorizedKeysCommand with the keys of sessions that are being opened now. It is asked of the
// broker each time, by the daemon; where that cannot be, nobody comes in.
func Keys(dir, login string, out io.Writer, say func(string)) error {
	lines, err := keyLines(dir, login)
	if err != nil {
		say(fmt.Sprintf("no keys for %.40q: %s", login, err))
		return nil // an error would tell sshd no more than silence does
	}
	_, err = io.WriteString(out, lines)
	return err
}

func keyLines(dir, login string) (string, error) {
	c, err := Load(dir)
	if err != nil {
		return "", err
	}
	if err := sshca.CheckLogin(login); err != nil {
		return "", err
	}
	owner, err := ownerOf(c.file(configName))
	if err != nil {
		return "", err
	}
	r, err := ask(c.Socket, owner, request{Op: opKeys, Login: login}, keysTime)
	if err != nil {
		return "", fmt.Errorf("the daemon does not answer: %w", err)
	}
	if r.Why != "" {
		return "", fmt.Errorf("%s", r.Why)
	}
	var b strings.Builder
	for _, k := range r.Keys {
		line, err := authorizedKey(k, time.Now())
		if err != nil {
			return "", err
		}
		b.WriteString(line + "\n")
	}
	return b.String(), nil
}

// authorizedKey is a line of authorized_keys. What the broker sends is held against its grammar: a quote or a line's
// end in it would be options or keys of its own. The time is in the system's zone and without a Z, which sshd takes from
// 9.1 on alone.
func authorizedKey(k api.HostKey, now time.Time) (string, error) {
	key, err := sshca.ParseKey(k.Key)
	if err != nil {
		return "", err
	}
	for _, from := range strings.Split(k.From, ",") {
		if _, err := netip.ParsePrefix(from); err != nil {
			return "", fmt.Errorf("the broker's key is good from %.60q, which is no address range", from)
		}
	}
	for _, option := range strings.Split(k.Options, ",") {
		if !knownOption[option] {
			return "", fmt.Errorf("the broker's key has the option %.60q", option)
		}
	}
	if !strings.HasPrefix(k.SessionID, api.IDSSH) || strings.ContainsFunc(k.SessionID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("the broker's key is of %.60q, which is no session", k.SessionID)
	}
	if !strings.HasPrefix(k.Options, "restrict") || !k.Expires.After(now) {
		return "", fmt.Errorf("the broker's key is not restricted, or has expired")
	}
	return fmt.Sprintf(`from="%s",expiry-time="%s",%s %s %s`, k.From, k.Expires.Local().Format("20060102150405"), k.Options, sshca.MarshalLine(key), k.SessionID), nil
}

// knownOption are the options that the broker gives.
var knownOption = map[string]bool{"restrict": true, "pty": true, "port-forwarding": true, "agent-forwarding": true, "X11-forwarding": true}

// keys asks the broker for the keys of an account.
func (d *Daemon) keys(ctx context.Context, login string) response {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	held := d.now()
	switch {
	case held.Blocked:
		return response{Why: "the host was revoked"}
	case !slices.Contains(held.Bundle.AllLogins(), login): // an account of its own that is somebody else's here, too
		return response{Why: "nobody is let into this account of the host"}
	}
	v, err := with(ctx, d.m, func(ctx context.Context) (api.HostKeys, error) { return d.m.client.HostKeys(ctx, login) })
	if err != nil {
		d.log.Error("sshd asks for keys, and the broker gives none", "login", login, "error", err)
		return response{Why: "the broker gives no keys: " + err.Error()}
	}
	return response{Keys: v.Keys}
}
