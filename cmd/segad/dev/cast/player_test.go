//go:build linux

package cast

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

const (
	playerVersion = "3.17.0"
	installTime   = 2 * time.Minute
	playTime      = time.Minute
)

// page plays one cast and tells the test what the player shows when it has come to the end, or
// that it failed.
const page = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/player/asciinema-player.css"><div id="here"></div>
<script>
const tell = (kind, text) => fetch('/tell', {method: 'POST', body: JSON.stringify({kind, text})});
window.onerror = (message) => tell('error', String(message));
window.onunhandledrejection = (e) => tell('error', String(e.reason));
</script>
<script src="/player/asciinema-player.min.js"></script>
<script>
const cast = new URLSearchParams(location.search).get('cast');
const player = AsciinemaPlayer.create('/casts/' + cast, document.getElementById('here'), {autoPlay: true, speed: 2, fit: false, logger: {
  log() {}, debug() {}, info() {}, warn() {}, error: (...what) => tell('error', what.join(' '))}});
player.addEventListener('ended', async () => {
  const duration = await player.getDuration();
  // the last frame is painted after the event
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const lines = [...document.querySelectorAll('.ap-term .ap-line')].map((l) => l.textContent);
    tell('ended', JSON.stringify({lines, duration}));
  }));
});
</script>`

// told is a message of the page.
type told struct{ Kind, Text string }

// installPlayer gets the player from npm's registry. Its scripts are not run.
func installPlayer(t *testing.T) string {
	t.Helper()
	devtest.Need(t, "node", "npm", "chromium")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	c := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "asciinema-player@"+playerVersion)
	if os.Getenv("NODE_EXTRA_CA_CERTS") == "" { // Node does not read the system's
		c.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt")
	}
	if out, err := c.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("asciinema-player %s cannot be installed from npm: %v\n%s", playerVersion, err, out)
		}
		t.Skipf("asciinema-player %s cannot be installed from npm: %v", playerVersion, err)
	}
	return filepath.Join(dir, "node_modules", "asciinema-player", "dist", "bundle")
}

// serve answers the page, the player and the casts, and hands on what the page tells.
func serve(t *testing.T, player, casts string) (string, <-chan told) {
	t.Helper()
	messages := make(chan told, 16)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	})
	mux.Handle("GET /player/", http.StripPrefix("/player/", http.FileServer(http.Dir(player))))
	mux.Handle("GET /casts/", http.StripPrefix("/casts/", http.FileServer(http.Dir(casts))))
	mux.HandleFunc("POST /tell", func(_ http.ResponseWriter, r *http.Request) {
		var m told
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			m = told{"error", err.Error()}
		}
		select {
		case messages <- m:
		default:
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, messages
}

// browse opens an address in a headless Chromium of its own, which ends with the test.
func browse(t *testing.T, address string) {
	t.Helper()
	c := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(), "--window-size=1000,800",
		"--remote-debugging-port=0", address)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var talk strings.Builder
	c.Stderr = &talk
	must(t, c.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
		if t.Failed() {
			t.Logf("chromium: %s", talk.String())
		}
	})
}

func TestNPMPlayer(t *testing.T) {
	player, casts := installPlayer(t), t.TempDir()
	open := record(t)
	for version := 2; version <= 3; version++ {
		exported(t, open, casts, version)
	}
	address, messages := serve(t, player, casts)
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			browse(t, fmt.Sprintf("%s/?cast=v%d.cast", address, version))
			select {
			case m := <-messages:
				checkPlayed(t, m)
			case <-time.After(playTime):
				t.Fatal("the player does not come to the end")
			}
		})
	}
}

// checkPlayed compares what the player showed at the end, and how long it says that it was.
func checkPlayed(t *testing.T, m told) {
	t.Helper()
	var got struct {
		Lines    []string
		Duration float64
	}
	if m.Kind != "ended" {
		t.Fatalf("the player says: %s", m.Text)
	}
	must(t, json.Unmarshal([]byte(m.Text), &got))
	if len(got.Lines) != rows {
		t.Errorf("%d rows after the resize to %d", len(got.Lines), rows)
	}
	if diff := cmp.Diff(shown, trimmed(got.Lines)); diff != "" {
		t.Errorf("-want +seen\n%s", diff)
	}
	if want := float64(len(pieces))*0.1004 + 0.1; got.Duration < want-0.1-0.002 || got.Duration > want+0.002 {
		t.Errorf("it lasts %g s, and the recording %g s", got.Duration, want)
	}
}
