package bastion

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSmallFiles: many small files, each an event or more. SEGA_SOAK=1 makes them 10,000.
func TestSmallFiles(t *testing.T) {
	n := 100
	if os.Getenv("SEGA_SOAK") != "" {
		n = 10_000
	}
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	c := w.copier(t)
	if err := os.Mkdir(filepath.Join(c.dir, "many"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		writeFile(t, filepath.Join(c.dir, "many", fmt.Sprint(i)), fmt.Sprint("file ", i))
	}
	began := time.Now()
	if out, err := c.run(t, "sftp", "put -r {}/many {}/copies\n", "-q", "-b", "-", currentLogin(t)+"+web-1@bastion"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d files in %s", n, time.Since(began).Round(time.Millisecond))
	c.ends(t, 1)
	eventually(t, "each file once", func() bool { return len(f.find("sftp.write")) == n })
}
