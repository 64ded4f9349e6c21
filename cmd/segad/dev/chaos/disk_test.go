//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sega/broker/api"
	"sega/cmd/segad/dev/devtest"
)

const (
	diskSize    = 4 << 20
	diskClients = 32
	diskPace    = 400 * time.Millisecond // between a client's requests, within the limits of two people
)

// mountDisk mounts a file system of that size. Without the right to mount, the test is skipped by
// name, or fails in CI.
func mountDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s was not tested, because nothing may be mounted here: %v", t.Name(), err)
		}
		t.Skipf("NOT TESTED: %s, because nothing may be mounted here: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)))
		}
	})
	return dir
}

// usage says what is on a disk, for a test that has failed on it.
func usage(dir string) string {
	var out strings.Builder
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err == nil {
		fmt.Fprintf(&out, "%d KiB of %d are free:", int64(fs.Bavail)*fs.Bsize>>10, int64(fs.Blocks)*fs.Bsize>>10)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			fmt.Fprintf(&out, " %s %d KiB,", e.Name(), info.Size()>>10)
		}
	}
	return out.String()
}

// ballast takes whatever space a file system has, and whatever becomes free on it, until it is freed.
type ballast struct {
	path string
	stop chan struct{}
	done chan struct{}
}

// fillDisk returns when the disk is full for the first time.
func fillDisk(t *testing.T, dir string) *ballast {
	t.Helper()
	b := &ballast{path: filepath.Join(dir, "ballast"), stop: make(chan struct{}), done: make(chan struct{})}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	filled := make(chan struct{})
	go func() {
		defer close(b.done)
		defer f.Close()
		full := sync.OnceFunc(func() { close(filled) })
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		block := make([]byte, 4096)
		for {
			for {
				if _, err := f.Write(block); err != nil {
					break
				}
			}
			full()
			select {
			case <-b.stop:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(b.halt)
	<-filled
	return b
}

func (b *ballast) halt() {
	select {
	case <-b.stop:
	default:
		close(b.stop)
	}
	<-b.done
}

// free gives the space back.
func (b *ballast) free(t *testing.T) {
	t.Helper()
	b.halt()
	if err := os.Remove(b.path); err != nil {
		t.Error(err)
	}
}

// queue is a client that asks at a pace and remembers how it fared.
type queue struct {
	granted atomic.Int64
	refused atomic.Int64
}

// writers are clients that write to the broker's log at the same time.
type writers struct {
	t      *testing.T
	why    func(*api.Problem) bool // whether a refusal says what it has to
	ledger *ledger
	queues []*queue
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startWriters lets n clients ask, in turn for credentials and certificates.
func startWriters(t *testing.T, people []*member, n int, l *ledger, why func(*api.Problem) bool) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{t: t, why: why, ledger: l, cancel: cancel}
	for i := range n {
		q := &queue{}
		w.queues = append(w.queues, q)
		m := people[i%len(people)]
		do := askCredentials(m)
		if i%4 >= 2 {
			do = askCert(m)
		}
		w.wg.Go(func() { w.loop(ctx, q, do) })
	}
	t.Cleanup(w.stop)
	return w
}

func (w *writers) loop(ctx context.Context, q *queue, do task) {
	tick := time.NewTicker(diskPace)
	defer tick.Stop()
	for {
		w.once(ctx, q, do)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *writers) once(ctx context.Context, q *queue, do task) {
	err := do(context.WithoutCancel(ctx), w.ledger)
	var p *api.Problem
	switch {
	case err == nil:
		q.granted.Add(1)
	case api.IsKind(err, api.KindRateLimited):
	case errors.As(err, &p) && p.Kind == api.KindUnavailable && w.why(p):
		q.refused.Add(1)
	case errors.As(err, &p):
		w.t.Errorf("refused with %s: %q (%s)", p.Kind, p.Detail, p.Hint)
	default:
		w.t.Errorf("refused: %v", err)
	}
}

// await waits until every client has been granted, or refused, n more times.
func (w *writers) await(what string, n int64, of func(*queue) *atomic.Int64) {
	w.t.Helper()
	want := map[*queue]int64{}
	for _, q := range w.queues {
		want[q] = of(q).Load() + n
	}
	devtest.Eventually(w.t, 60*time.Second, what, func() error {
		short := 0
		for q, n := range want {
			if of(q).Load() < n {
				short++
			}
		}
		if short > 0 {
			return fmt.Errorf("%d clients are missing", short)
		}
		return nil
	})
}

func granted(q *queue) *atomic.Int64 { return &q.granted }
func refused(q *queue) *atomic.Int64 { return &q.refused }

func (w *writers) total(of func(*queue) *atomic.Int64) (n int64) {
	for _, q := range w.queues {
		n += of(q).Load()
	}
	return n
}

// stop lets every client finish what it has begun.
func (w *writers) stop() {
	w.cancel()
	w.wg.Wait()
}

func says(text string) func(*api.Problem) bool {
	return func(p *api.Problem) bool {
		return strings.Contains(p.Detail, text) && strings.Contains(p.Detail, "nothing is issued")
	}
}

// TestDiskFull fills the disk under the broker's database while clients write, and frees it again,
// without a restart (I1, I6).
func TestDiskFull(t *testing.T) {
	disk := mountDisk(t, diskSize)
	r := startRig(t, func(r *rig) { r.file.Database = filepath.Join(disk, "sega.db") })
	carol := r.LoggedIn("carol@example.com")
	l, b := newLedger(), newBook()
	c := newCrowd(r, l, newMarks(t, r.bfile.LogKey))
	pid := r.broker.cmd.Process.Pid
	id := mustCertify(t, c.people[0])
	quiet := r.mustOpen(id, "cat", false)
	w := startWriters(t, c.people, diskClients, l, says("its disk is full"))
	for round := range max(2, times(4)) { // more would fill the disk with events
		full := fillDisk(t, disk)
		w.await("the disk does not get full", 3, refused)
		before := w.total(granted)
		w.await("the disk does not stay full", 2, refused)
		t.Logf("round %d: %d granted, of them %d while full; %d refused", round, before, w.total(granted)-before, w.total(refused))
		quiet.echo(t, fmt.Sprint("full, round ", round))
		if out, errs, err := r.run(id, "echo new"); err == nil || out != "" || !strings.Contains(errs, "its disk is full") {
			t.Errorf("a new session on a full disk: %q %q %v", out, errs, err)
		}
		full.free(t)
		w.await("service does not resume", 2, granted)
		if t.Failed() {
			break
		}
	}
	w.stop()
	if r.broker.cmd.Process.Pid != pid || !r.broker.running() {
		t.Error("the broker was restarted")
	}
	if _, err := b.read(r.source(), l); err != nil {
		t.Fatal(err)
	}
	b.check(t, l)
	t.Logf("%d clients: %d granted, %d refused, %d events", diskClients, w.total(granted), w.total(refused), b.next)
	verify(carol)
	r.awaitFeed()
	if out, errs, err := r.run(mustCertify(t, c.people[0]), "echo again"); out != "again\n" {
		t.Errorf("a new session: %q %q %v", out, errs, err)
	}
}
