//go:build linux

package bare

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// testStream sends bytes through.
func testStream(t *testing.T, w *world) {
	binary := make([]byte, 4<<20)
	_, _ = rand.Read(binary)
	for name, c := range map[string]struct {
		x    trial
		argv []string
		want string
	}{
		"both ways":            {trial{}, []string{"sh", "-c", "cat; echo out; echo err >&2"}, "exit 0"},
		"stdin closed":         {trial{setup: []string{"close=0"}}, []string{"cat"}, "exit 1"},
		"stdout closed":        {trial{setup: []string{"close=1"}}, []string{"sh", "-c", "echo x || exit 7"}, "exit 7"},
		"stderr closed":        {trial{setup: []string{"close=2"}}, []string{"sh", "-c", "echo out; echo x >&2 || exit 7"}, "exit 7"},
		"all closed":           {trial{setup: []string{"close=0", "close=1", "close=2"}}, []string{"sh", "-c", "echo x && exit 1; exit 7"}, "exit 7"},
		"a file of its own":    {trial{setup: []string{"open=9"}}, []string{"sh", "-c", "head -n1 <&9"}, "exit 0"},
		"disk full":            {trial{}, []string{"sh", "-c", "exec >/dev/full; echo x || exit 7"}, "exit 7"},
		"reader that has gone": {trial{}, []string{"bash", "-c", "yes | head -n1; echo ${PIPESTATUS[@]}"}, "exit 0"},
	} {
		t.Run(name, func(t *testing.T) { compare(t, w, c.x, c.want, c.argv...) })
	}
	t.Run("binary", func(t *testing.T) {
		for _, m := range modes {
			got := trial{w: w.on(t), prefix: m.prefix, stdin: bytes.NewReader(binary)}.run(t, "cat")
			if got.How != "exit 0" || got.Out != string(binary) || got.Err != "" {
				t.Errorf("%s: %s, %d bytes, %s", m.name, got.How, len(got.Out), got.Err)
			}
		}
	})
	t.Run("huge", func(t *testing.T) {
		sums := map[string]bool{}
		for _, m := range modes {
			sum, size := sha256.New(), int64(0)
			got := trial{w: w.on(t), prefix: m.prefix, during: func(_ *exec.Cmd, out io.Reader) {
				size, _ = io.Copy(sum, struct{ io.Reader }{out})
			}}.run(t, "sh", "-c", "yes 'one line of many' | head -c 104857600")
			if sums[fmt.Sprintf("%x", sum.Sum(nil))] = true; got.How != "exit 0" || size != 100<<20 || len(sums) != 1 {
				t.Errorf("%s: %s, %d bytes", m.name, got.How, size)
			}
		}
	})
	// The reader of what sega's command writes goes away.
	t.Run("broken pipe", func(t *testing.T) {
		for _, m := range modes {
			r, wr, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			x := trial{w: w.on(t), prefix: m.prefix, stdout: wr, during: func(*exec.Cmd, io.Reader) {
				_ = wr.Close()
				if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
					t.Error(err)
				}
				_ = r.Close()
			}}
			if got := x.run(t, "yes"); got.How != "signal 13, core false" {
				t.Errorf("%s: %+v", m.name, got)
			}
		}
	})
	t.Run("disk full for all", func(t *testing.T) {
		for _, m := range modes {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := (trial{w: w.on(t), prefix: m.prefix, stdout: full}).run(t, "cat", "/etc/passwd"); got.How != "exit 1" || !strings.Contains(got.Err, "No space left") {
				t.Errorf("%s: %+v", m.name, got)
			}
			_ = full.Close()
		}
	})
}

// testOutlive: what the command leaves in the background goes on, and nobody waits for it.
func testOutlive(t *testing.T, w *world) {
	for _, m := range modes {
		x := trial{w: w.on(t), prefix: m.prefix}
		got := x.run(t, "sh", "-c", `(while [ ! -e go ]; do sleep 0.01; done; echo late >late) </dev/null >/dev/null 2>&1 & echo started; exit 5`)
		if got.How != "exit 5" || got.Out != "started\n" {
			t.Errorf("%s: %+v", m.name, got)
		}
		if err := os.WriteFile(filepath.Join(x.w.dir, "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		devtest.Eventually(t, patience, m.name, func() error {
			raw, err := os.ReadFile(filepath.Join(x.w.dir, "late"))
			if err == nil && string(raw) != "late\n" {
				err = errors.New("it says " + string(raw))
			}
			return err
		})
	}
}
