//go:build linux

package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

const (
	alice = "alice@example.com"
	bob   = "bob@example.com"
	sam   = "sam@example.com"
	carol = "carol@example.com"

	// alive is how often the bastion asks who is silent; lost is when it gives up (broker/bastion/alive.go).
	alive = time.Second
	lost  = 4 * alive

	moreMemory = 48 << 20 // bytes that the bastion may take, more than at rest; a flood of 1 GiB waits behind it
)

// bad is the link that everything here is held to: 200 ms there and back, 2 % lost. The rate makes it the link that holds a flood back.
var bad = Conditions{Delay: 100 * time.Millisecond, Loss: 0.02, Rate: 1 << 20}

// sized is how much is carried and typed: in full with SEGA_SOAK=1.
func sized() (transfer, lines int) {
	if os.Getenv("SEGA_SOAK") == "1" {
		return 512 << 10, 50
	}
	return 48 << 10, 6
}

// world is an environment, with a laptop behind the link.
type world struct {
	*devtest.Env
	link                   *Link
	laptop, office         *devtest.Person // alice's, bob's
	reviewer, security     *devtest.Person
	config                 string // of alice's ssh
	dir                    string
	bastion, files, atRest int // process, its open files and memory before all
}

func newWorld(t *testing.T) *world {
	t.Helper()
	devtest.Need(t, "ssh", "sftp", "sshd")
	w := &world{link: join(t), Env: devtest.UpWith(t, "--keepalive", alive.String()), dir: t.TempDir()}
	w.laptop, w.office, w.reviewer, w.security = w.LoggedIn(alice), w.LoggedIn(bob), w.LoggedIn(carol), w.LoggedIn(sam)
	r := w.laptop.Sega("configure", "--ssh", "--print")
	if r.Code != 0 {
		t.Fatalf("exit %d\n%s", r.Code, r.Err)
	}
	w.config = filepath.Join(w.dir, "config")
	if err := os.WriteFile(w.config, []byte(r.Out), 0o600); err != nil {
		t.Fatal(err)
	}
	w.bastion = w.PID("bastion")
	w.trueAt(t) // what is made once is there
	w.files, w.atRest = w.openFiles(t), w.memory(t)
	return w
}

// trueAt is how long bob's `sega ssh HOST -- true` takes, on loopback.
func (w *world) trueAt(t *testing.T) time.Duration {
	t.Helper()
	from := time.Now()
	if r := w.office.Sega("ssh", w.Host.Name, "--", "true"); r.Code != 0 {
		t.Errorf("bob: exit %d\n%s", r.Code, r.Err)
	}
	return time.Since(from)
}

// memory is what the bastion has of it, in bytes.
func (w *world) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.bastion))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func (w *world) openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.bastion))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// program is one that runs on the laptop.
type program struct {
	*exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	errs bytes.Buffer
}

// start starts alice's ssh on the laptop.
func (w *world) start(t *testing.T, ctx context.Context, name string, args ...string) *program {
	t.Helper()
	p := &program{Cmd: w.laptop.Command(ctx, name, append([]string{"-F", w.config}, args...)...)}
	var err error
	if p.in, err = p.StdinPipe(); err == nil {
		p.out, err = p.StdoutPipe()
	}
	p.Stderr = &p.errs
	if err != nil {
		t.Fatal(err)
	}
	if e := w.link.In(func() { err = p.Start() }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return p
}

// until reads what the program prints until a text has come.
func (p *program) until(t *testing.T, text string) {
	t.Helper()
	var got []byte
	for one := make([]byte, 1); !bytes.HasSuffix(got, []byte(text)); got = append(got, one...) {
		if _, err := io.ReadFull(p.out, one); err != nil {
			t.Fatalf("%v before %q; %q\n%s", err, text, got, p.errs.String())
		}
	}
}

// typing opens a terminal whose far end gives back each byte.
func (w *world) typing(t *testing.T, ctx context.Context, mark string) *program {
	t.Helper()
	p := w.start(t, ctx, "ssh", "-tt", "-e", "none", w.Host.Name, "stty raw -echo; printf "+mark+"-'ready'; exec cat")
	p.until(t, mark+"-ready")
	return p
}

// echo types bytes and wants each back; it returns how long the slowest of them took.
func (p *program) echo(t *testing.T, lines int) (slowest time.Duration) {
	t.Helper()
	for range lines {
		typed, back := make([]byte, 64), make([]byte, 64)
		rand.Read(typed)
		from := time.Now()
		if _, err := p.in.Write(typed); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.out, back); err != nil || !bytes.Equal(typed, back) {
			t.Fatalf("%x came back as %x, %v\n%s", typed, back, err, p.errs.String())
		}
		slowest = max(slowest, time.Since(from))
	}
	return slowest
}

// copying puts a file and gets it back by SFTP. What it returns waits for the end, and judges.
func (w *world) copying(t *testing.T, ctx context.Context, size int) (done func()) {
	t.Helper()
	content := make([]byte, size)
	rand.Read(content)
	local, there, back := filepath.Join(w.dir, "local"), filepath.Join(w.dir, "there"), filepath.Join(w.dir, "back")
	batch := filepath.Join(w.dir, "batch")
	for path, text := range map[string][]byte{local: content, batch: fmt.Appendf(nil, "put %s %s\nget %s %s\n", local, there, there, back)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := w.start(t, ctx, "sftp", "-b", batch, w.Host.Name)
	return func() {
		t.Helper()
		said, _ := io.ReadAll(p.out)
		if err := p.Wait(); err != nil {
			t.Errorf("sftp: %v\n%s%s", err, said, p.errs.String())
		}
		for _, path := range []string{there, back} {
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s has %d of %d bytes, or others (%v)", filepath.Base(path), len(got), size, err)
			}
		}
	}
}

// session returns the ID of the session that has run a command.
func (w *world) session(t *testing.T, command string) string {
	t.Helper()
	var id string
	devtest.Eventually(t, patience, "no session runs "+command, func() error {
		for _, v := range w.reviewer.Events("--kind", "session.command", "--user", alice) {
			details, _ := v["details"].(map[string]any)
			if text, _ := details["command"].(string); strings.Contains(text, command) {
				id, _ = v["session_id"].(string)
				return nil
			}
		}
		return fmt.Errorf("not yet")
	})
	return id
}

// end waits for the end of a session and returns outcome and reason.
func (w *world) end(t *testing.T, id string, within time.Duration) (outcome, reason string) {
	t.Helper()
	devtest.Eventually(t, within, "no end of "+id, func() error {
		for _, v := range w.reviewer.Events("--kind", "session.end", "--session", id) {
			outcome, _ = v["outcome"].(string)
			reason, _ = v["reason"].(string)
			return nil
		}
		return fmt.Errorf("not yet")
	})
	return outcome, reason
}

// TestBadLink: what is typed and copied over a bad link arrives, a flood that the laptop is slow to take costs the bastion
// no memory and nobody else his time, a revocation reaches the session, and so does the loss of the link.
func TestBadLink(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	usual := w.median(t)
	w.link.Set(bad)
	transfer, lines := sized()
	flood := w.start(t, ctx, "ssh", w.Host.Name, "head -c 1G /dev/zero # flood")
	got := make(chan int64, 1)
	go func() { n, _ := io.Copy(io.Discard, flood.out); got <- n }()
	copied := w.copying(t, ctx, transfer)
	terminal := w.typing(t, ctx, "one")
	slowest := terminal.echo(t, lines)
	meanwhile := w.median(t)
	copied()
	memory := w.memory(t)
	t.Logf("%v: %d packets lost; an echo took %v at most; others' `true` %v, %v before; the bastion has %d KiB, %d at rest", bad, w.link.Dropped(), slowest.Round(time.Millisecond),
		meanwhile.Round(time.Millisecond), usual.Round(time.Millisecond), memory>>10, w.atRest>>10)
	if memory > w.atRest+moreMemory {
		t.Errorf("the bastion has %d bytes, %d at rest", memory, w.atRest)
	}
	if meanwhile > 3*usual+time.Second {
		t.Errorf("others wait %v, %v without the flood", meanwhile, usual)
	}
	w.revoked(t, flood)
	if n := <-got; n >= 1<<30 {
		t.Error("the flood was through before it was cut")
	}
	terminal.echo(t, 1) // her other session goes on
	w.lost(t, ctx, terminal)
}

func (w *world) median(t *testing.T) time.Duration {
	took := []time.Duration{w.trueAt(t), w.trueAt(t), w.trueAt(t)}
	slices.Sort(took)
	return took[1]
}

// revoked ends one session by its ID: the host's side at once, and the laptop hears of it.
func (w *world) revoked(t *testing.T, flood *program) {
	t.Helper()
	id := w.session(t, "# flood")
	from := time.Now()
	if r := w.security.Sega("revoke", "session", id, "--yes", "--reason", "flood"); r.Code != 0 {
		t.Fatalf("exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	outcome, reason := w.end(t, id, patience)
	t.Logf("revoked: in the log after %v, %s: %s", time.Since(from).Round(time.Millisecond), outcome, reason)
	if outcome != "revoked" {
		t.Errorf("it ended as %q, %q", outcome, reason)
	}
	if err := flood.Wait(); err == nil || flood.ProcessState.ExitCode() != 255 {
		t.Errorf("ssh ends with %v\n%s", err, flood.errs.String())
	}
}

// lost cuts the link under a session: the bastion ends it, and keeps nothing of it.
func (w *world) lost(t *testing.T, ctx context.Context, terminal *program) {
	t.Helper()
	w.link.Set(Conditions{Loss: 1})
	from := time.Now()
	id := w.session(t, "one-")
	outcome, reason := w.end(t, id, lost+patience)
	took := time.Since(from)
	t.Logf("link cut: ended after %v, %s: %s", took.Round(time.Millisecond), outcome, reason)
	if outcome != "failure" || reason != "the connection to the person was lost" || took < lost-alive {
		t.Errorf("it ended as %q, %q", outcome, reason)
	}
	devtest.Eventually(t, patience, "files of the bastion stay open", func() error {
		if n := w.openFiles(t); n > w.files {
			return fmt.Errorf("%d, %d at first", n, w.files)
		}
		return nil
	})
	_ = terminal.Process.Kill()
	_ = terminal.Wait()
	w.link.Set(Conditions{})
	again := w.typing(t, ctx, "two")
	again.echo(t, 1)
	_ = again.Process.Kill()
	_ = again.Wait()
}
