//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// What people saw and nobody typed: each is put together on the host.
const (
	shownByCommand = "DROP TABLE users; -- opal-4471"
	shownByEditor  = "the launch code is jade-9902"

	drop      = `printf 'DROP TABL'; printf 'E users; -- opal'; printf '%s\n' -4471`
	dropAgain = `printf 'DROP TABL'; printf 'E again\n'`
)

// TestIndexer finds what screens showed, for those who may replay it and for nobody else, and looks
// for the text everywhere outside of the reviewers' zone (R11).
func TestIndexer(t *testing.T) {
	devtest.Need(t, "ssh", "tmux", "vim")
	e := devtest.Up(t)
	p, reviewer, security := e.LoggedIn(alice), e.LoggedIn(carol), e.LoggedIn(sam)
	expect(t, p.Sega("ssh", e.Host.Name, "--", drop), 0, shownByCommand)
	expect(t, e.LoggedIn(bob).Sega("ssh", e.Host.Name, "--", "echo nothing of that kind"), 0)
	edit(t, p, e)
	command, editor := ended(t, reviewer, drop), ""
	for _, v := range reviewer.Events("kind:session.end user:" + alice) {
		if id := field(v, "session_id"); id != command {
			editor = id
		}
	}

	// An answer covers every session that has ended: there is nothing to wait for.
	finds(t, reviewer, `screen:"drop table users" user:`+alice, command)
	finds(t, reviewer, `screen:"DROP TABLE"`, command)
	finds(t, reviewer, `screen:"launch code is jade"`, editor)
	finds(t, reviewer, `screen:"launch code" host:`+e.Host.Name+` or screen:"DROP TABLE"`, command, editor)
	finds(t, reviewer, `screen:"no such text"`)
	expect(t, reviewer.Sega("audit", "query", "screen:ab"), 1, "3 characters")
	expect(t, security.Sega("audit", "query", `screen:"DROP TABLE"`), 3, "content")
	expect(t, p.Sega("audit", "query", `screen:"DROP TABLE" user:`+alice), 3, "everybody") // not even for her own
	reads := reviewer.Events("kind:recording.read session:" + command)
	if len(reads) != 1 || field(reads[0], "actor.kind") != "machine" {
		t.Errorf("the recording was fetched so: %v", reads)
	}
	if e.T.Failed() {
		return
	}
	nowhere(t, e, "opal-4471", "jade-9902")
	away(t, e, p, reviewer, command)
}

// finds asks for sessions and wants exactly those.
func finds(t *testing.T, p *devtest.Person, query string, want ...string) {
	t.Helper()
	got := fields(p.Events("("+query+") kind:session.end"), "session_id")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s found %q, want %q", query, got, want)
	}
}

// edit types a line into vi on a real terminal, with a mistake, and throws it away.
func edit(t *testing.T, p *devtest.Person, e *devtest.Env) {
	t.Helper()
	w := openTerminal(t, p, 80, 24, "sega ssh "+e.Host.Name)
	w.await("#")
	w.line("vi -u NONE +startinsert none; echo left vi: $?")
	w.await("[New File]")
	w.tmux("send-keys", "-l", "the launch cod is jade-9902")
	w.keys("Escape")
	w.line(":s/cod /code /")
	w.await(shownByEditor)
	w.line(":q!")
	w.await("left vi: 0") // it forgets what was typed ahead
	w.line("exit")
	w.await("[exit 0]")
}

// nowhere looks for texts in every file of the environment but the reviewers' own, and in the
// broker's memory.
func nowhere(t *testing.T, e *devtest.Env, texts ...string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(e.Data, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "indexer":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a journal that was in use
		}
		looked++
		for _, text := range texts {
			if bytes.Contains(raw, []byte(text)) {
				t.Errorf("%q is in %s", text, path)
			}
		}
		return err
	})
	if err != nil || looked < 20 {
		t.Fatalf("looked at %d files: %v", looked, err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", e.PID("broker")))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", e.PID("broker")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	total, control := 0, false
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x rw", &from, &to); err != nil || to-from > 1<<30 {
			continue
		}
		raw := make([]byte, to-from)
		n, _ := memory.ReadAt(raw, from) // pages that are not there end it
		total += n
		control = control || bytes.Contains(raw[:n], []byte(e.Broker))
		for _, text := range texts {
			if bytes.Contains(raw[:n], []byte(text)) {
				t.Errorf("%q is in the broker's memory", text)
			}
		}
	}
	if !control {
		t.Errorf("the broker's own address is not in the %d bytes of its memory: the test looks at nothing", total)
	}
}

// away takes the indexer away in every manner: there is a clear error each time, and afterwards
// what happened meanwhile is found.
func away(t *testing.T, e *devtest.Env, p, reviewer *devtest.Person, command string) {
	t.Helper()
	frozen := e.PID("indexer")
	if err := syscall.Kill(frozen, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r := reviewer.Sega("audit", "query", `screen:"DROP TABLE"`)
	if err := syscall.Kill(frozen, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r.Code == 0 || !strings.Contains(r.Err, "the indexer has not answered") && !strings.Contains(r.Err, "no indexer is connected") {
		t.Errorf("frozen: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}

	config := filepath.Join(e.Data, "indexer.yaml")
	good := read(t, config)
	write(t, config, "nonsense: true\n") // it does not come back by itself
	if err := syscall.Kill(frozen, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "the broker counts on the indexer", func() error {
		r := reviewer.Sega("audit", "query", `screen:"DROP TABLE"`)
		if r.Code == 0 || !strings.Contains(r.Err, "no indexer is connected") || !strings.Contains(r.Err, "segad indexer") {
			return fmt.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
		}
		return nil
	})
	expect(t, reviewer.Sega("audit", "query", "user:"+alice), 0, command)
	expect(t, p.Sega("ssh", e.Host.Name, "--", dropAgain), 0)
	again := ended(t, reviewer, dropAgain)
	write(t, config, good)
	devtest.Eventually(t, patience, "the indexer does not come back", func() error {
		if r := reviewer.Sega("audit", "query", `screen:"DROP TABLE"`); r.Code != 0 {
			return errors.New(r.Err)
		}
		return nil
	})
	finds(t, reviewer, `screen:"DROP TABLE"`, command, again)
	status := reviewer.Run("segad", "indexer", "--config", config, "--status")
	expect(t, status, 0)
	if status.Out != "" {
		t.Errorf("not indexed:\n%s", status.Out)
	}
	expect(t, reviewer.Run("segad", "indexer", "--config", config, "--retry"), 0, "0 sessions")
	expect(t, reviewer.Run("segad", "indexer", "--config", config, "--retry", "--status"), 2)
}
