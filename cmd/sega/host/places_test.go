//go:build linux

package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// as runs f on a thread of another user's, so that the kernel names him at the other end of what f connects (unix(7), SO_PEERCRED).
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("root alone connects as others: run the tests as root")
		}
		t.Skip("root alone connects as others")
	}
	runtime.LockOSThread() // for good: the thread ends with its goroutine where it cannot be given back
	set := func(uid int) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	set(uid)
	defer runtime.UnlockOSThread()
	defer set(0)
	f()
}

// TestOneUserHoldsNotAllPlaces: whoever connects as often as he can keeps himself out, and neither sshd nor root.
func TestOneUserHoldsNotAllPlaces(t *testing.T) {
	dir, err := os.MkdirTemp("", "sega-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{cfg: Config{dir: dir, Socket: filepath.Join(dir, "socket"), User: "nobody"}, log: slog.New(slog.DiscardHandler)}
	d.held, _ = bundleOf(t)
	d.held.Blocked = true // the broker is not asked
	l, err := listen(d.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- d.serve(ctx, l, time.Minute) }()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	// hold takes all places that a user gets, says nothing, and wants to be refused the next: who comes later is looked at later.
	hold := func(uid int) {
		as(t, uid, func() {
			var held []net.Conn
			for range maxOther + 1 {
				c, err := net.Dial("unix", d.cfg.Socket)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				held = append(held, c)
			}
			for i := len(held) - 1; i >= 0; i-- {
				c := held[i]
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if i == maxOther {
					_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				}
				if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) != (i < maxOther) {
					t.Errorf("user %d, connection %d: %v", uid, i+1, err)
				}
			}
		})
	}
	hold(4711)
	if r := d.reply(ctx, request{Op: opKeys, Login: "deploy"}, 4712); r.Why != "this is for sshd to ask" {
		t.Errorf("anybody gets %+v", r)
	}
	for uid, why := range map[int]string{65534: "the host was revoked", 0: "the host was revoked", 4711: ""} {
		as(t, uid, func() {
			r, err := ask(d.cfg.Socket, 0, request{Op: opKeys, Login: "deploy"}, keysTime)
			if (err == nil) != (why != "") || r.Why != why {
				t.Errorf("user %d gets %+v, %v", uid, r, err)
			}
		})
	}
	for uid := 5000; uid < 5000+maxOthers/maxOther-1; uid++ {
		hold(uid)
	}
	as(t, 65534, func() {
		if _, err := ask(d.cfg.Socket, 0, request{Op: opStatus}, keysTime); err != nil {
			t.Errorf("sshd, with all places of others taken: %v", err)
		}
	})
	as(t, 4713, func() {
		if _, err := ask(d.cfg.Socket, 0, request{Op: opStatus}, keysTime); err == nil || strings.Contains(err.Error(), "user") || errors.Is(err, syscall.EACCES) {
			t.Errorf("one too many: %v", err)
		}
	})
}

// TestPlacesAreGivenBack: as often as somebody comes and goes.
func TestPlacesAreGivenBack(t *testing.T) {
	var p places
	for range 3 {
		for _, reserved := range []bool{true, false} {
			n := 0
			for p.take(7, reserved) {
				n++
			}
			if want := map[bool]int{true: maxReserved, false: maxOther}[reserved]; n != want {
				t.Errorf("reserved %v: %d places, want %d", reserved, n, want)
			}
			for range n {
				p.leave(7, reserved)
			}
		}
	}
	if len(p.by) != 0 || p.others != 0 {
		t.Errorf("left: %v, %d", p.by, p.others)
	}
}
