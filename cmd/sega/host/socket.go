//go:build linux

package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sega/broker/api"
)

const (
	askTime    = 500 * time.Millisecond // that a check waits for the daemon, before it reads the disk
	answerTime = 5 * time.Second        // that the daemon gives one caller to ask
	maxRequest = 1 << 20                // bytes
)

// Operations at the socket.
const (
	opCheck  = "check"
	opStatus = "status"
	opKeys   = "keys"  // for root and whom sshd asks as
	opAudit  = "audit" // for root
)

type request struct {
	Op       string          `json:"op"`
	Question Question        `json:"question,omitzero"`
	Login    string          `json:"login,omitempty"`
	Logins   []api.HostLogin `json:"logins,omitempty"`
}

type response struct {
	Principal string            `json:"principal,omitempty"`
	Why       string            `json:"why,omitempty"` // why not; of a status, why the certificate was not renewed
	Lost      time.Time         `json:"lost,omitzero"` // of a status: since when the broker's bundle does not come
	LostWhy   string            `json:"lost_why,omitempty"`
	Keys      []api.HostKey     `json:"keys,omitempty"`
	Verdicts  []api.HostVerdict `json:"verdicts,omitempty"`
	LeftOut   int               `json:"left_out,omitempty"`
}

// listen takes the socket. That another daemon has it shows by its answer.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("a daemon answers at %s already", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// Whoever asks gets what stands in the bundle, which everybody may read.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve answers until the listener is closed. A caller has so long to ask.
func (d *Daemon) serve(ctx context.Context, l *net.UnixListener, within time.Duration) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var taken places
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		uid, err := peer(c)
		reserved := d.reserved(uid)
		if err != nil || !taken.take(uid, reserved) {
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer taken.leave(uid, reserved)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(within))
			d.answer(ctx, c, uid)
		})
	}
}

func (d *Daemon) answer(ctx context.Context, c *net.UnixConn, uid int) {
	var r request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&r); err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(auditTime)) // the broker is asked for root, and for sshd
	_ = json.NewEncoder(c).Encode(d.reply(ctx, r, uid))
}

// reply answers one request of a user.
func (d *Daemon) reply(ctx context.Context, r request, uid int) response {
	switch r.Op {
	case opKeys:
		if !d.reserved(uid) {
			return response{Why: "this is for sshd to ask"}
		}
		return d.keys(ctx, r.Login)
	case opAudit:
		if uid != 0 {
			return response{Why: "this is for root to ask"}
		}
		return d.audit(ctx, r.Logins)
	case opCheck:
		v := d.now()
		principal, err := v.judge(r.Question)
		if err != nil {
			d.log.Warn("login refused", "login", r.Question.Login, "serial", r.Question.Serial, "key_id", r.Question.KeyID, "reason", err.Error(), "bundle", v.in(time.Now()))
			return response{Why: err.Error()}
		}
		if age := v.age(time.Now()); age > time.Minute {
			d.log.Warn("login judged without the broker", "login", r.Question.Login, "key_id", r.Question.KeyID, "bundle", v.in(time.Now()))
		}
		return response{Principal: principal}
	case opStatus:
		return d.standing(uid)
	}
	return response{Why: "no such operation"}
}

// audit asks the broker which logins are covered.
func (d *Daemon) audit(ctx context.Context, logins []api.HostLogin) response {
	ctx, cancel := context.WithTimeout(ctx, auditTime)
	defer cancel()
	v, err := d.m.audit(ctx, logins)
	if err != nil {
		return response{Why: err.Error()}
	}
	return response{Verdicts: v.Verdicts, LeftOut: v.LeftOut}
}

// ask asks the daemon at a socket, which must be one of owner's.
func ask(path string, owner int, r request, within time.Duration) (response, error) {
	var v response
	deadline := time.Now().Add(within)
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("unix", path)
	if err != nil {
		return v, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	uid, err := peer(conn.(*net.UnixConn))
	if err != nil {
		return v, err
	}
	if uid != owner {
		return v, fmt.Errorf("user %d answers at %s, not the daemon", uid, path)
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return v, err
	}
	return v, json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&v)
}

// ownerOf returns the user whose file it is.
func ownerOf(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	v, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("no owner")
	}
	return int(v.Uid), nil
}

// peer returns the user at the other end of a Unix socket (unix(7), SO_PEERCRED).
func peer(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if optErr != nil {
		return 0, optErr
	}
	return int(cred.Uid), nil
}
