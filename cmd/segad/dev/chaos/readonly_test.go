//go:build linux

package chaos

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/broker/api"
)

// The kernel refuses to remount a file system read-only while files on it are open for writing,
// and a broker that runs well has its database open. So there are two tests: a broker that finds
// its folder read-only when it opens the database anew after a failure, and one that is started
// on a file system that was really remounted.

// TestReadOnlyWhileRunning (I1, I6): no restart.
func TestReadOnlyWhileRunning(t *testing.T) {
	disk := mountDisk(t, diskSize)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(usage(disk))
		}
	})
	side := sideDoor(t, disk)
	r := startRig(t, func(r *rig) { r.file.Database = filepath.Join(disk, "sega.db") })
	carol := r.LoggedIn("carol@example.com")
	l, b := newLedger(), newBook()
	c := newCrowd(r, l, newMarks(t, r.bfile.LogKey))
	pid := r.broker.cmd.Process.Pid
	w := startWriters(t, c.people, diskClients, l, func(p *api.Problem) bool {
		return says("its disk is full")(p) || says("its disk is read-only")(p)
	})
	full := fillDisk(t, side)
	w.await("the disk does not get full", 2, refused) // the failed connection is closed
	shut := readOnly(t, disk)
	// What a batch had opened before the mount can still be written to. It fails while the disk is full.
	w.await("the broker writes to a full disk", 2, refused)
	full.free(t)
	w.await("the broker writes to a read-only disk", 2, refused)
	before := w.total(granted)
	w.await("the broker writes to a read-only disk", 3, refused)
	if n := w.total(granted) - before; n != 0 {
		t.Errorf("%d answers granted something on a read-only disk", n)
	}
	_, err := c.people[0].certify(context.Background())
	if p := api.AsProblem(err); p.Kind != api.KindUnavailable || !says("its disk is read-only")(p) {
		t.Errorf("on a read-only disk: %s %q", p.Kind, p.Detail)
	}
	shut()
	w.await("service does not resume", 2, granted)
	w.stop()
	if r.broker.cmd.Process.Pid != pid || !r.broker.running() {
		t.Error("the broker was restarted")
	}
	if _, err := b.read(r.source(), l); err != nil {
		t.Fatal(err)
	}
	b.check(t, l)
	t.Logf("%d granted, %d refused, %d events", w.total(granted), w.total(refused), b.next)
	verify(carol)
}

// TestRemountedReadOnly (I1): whoever supervises the broker starts it again and again, as systemd
// or `segad dev up` do; nothing is issued until the folder can be written to.
func TestRemountedReadOnly(t *testing.T) {
	disk := mountDisk(t, diskSize)
	r := startRig(t, func(r *rig) { r.file.Database = filepath.Join(disk, "sega.db") })
	carol, alice := r.LoggedIn("carol@example.com"), r.LoggedIn("alice@example.com")
	r.broker.kill()
	remount(t, disk, syscall.MS_RDONLY)
	for range 3 {
		r.broker.start()
		select {
		case <-r.broker.done:
		case <-time.After(15 * time.Second):
			t.Fatal("the broker runs on a read-only disk")
		}
		if code := r.broker.cmd.ProcessState.ExitCode(); code == 0 {
			t.Error("the broker ended with exit code 0")
		}
		if last := r.broker.tail(400); !strings.Contains(last, "read-only") && !strings.Contains(last, "readonly") {
			t.Errorf("the broker does not say why: %s", last)
		}
	}
	if res := alice.Sega("exec", "dev-admin", "--", "true"); res.Code != 7 {
		t.Errorf("exec without a broker: exit %d, want 7\n%s", res.Code, res.Err)
	}
	remount(t, disk, 0)
	r.startBroker()
	if res := alice.Sega("exec", "dev-admin", "--", "true"); res.Code != 0 {
		t.Errorf("exec: exit %d\n%s", res.Code, res.Err)
	}
	verify(carol)
}

// sideDoor mounts a file system a second time.
func sideDoor(t *testing.T, disk string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount(disk, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// readOnly makes everything that is opened under dir from now on read-only, until it is shut down.
func readOnly(t *testing.T, dir string) (undo func()) {
	t.Helper()
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	undo = func() {
		if !mounted {
			return
		}
		mounted = false
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil { // what is open there stays read-only
			t.Errorf("unmount: %v", err)
		}
	}
	t.Cleanup(undo)
	if err := syscall.Mount("none", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return undo
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("chaos", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
}
