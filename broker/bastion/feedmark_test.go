package bastion

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestUnreadableMarkReplaysTheFeed starts a bastion over what a loss of power may leave of its mark.
func TestUnreadableMarkReplaysTheFeed(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		after   int64
	}{
		"empty":        {"", fromStart},
		"zeroes":       {"\x00\x00\x00\x00", fromStart},
		"torn":         {`{"index":4`, fromStart},
		"no index":     {`{}`, fromStart},
		"out of range": {`{"index":-2}`, fromStart},
		"none yet":     {`{"index":-1}`, fromStart},
		"good":         {`{"index":4}`, 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "data", "feed.json")
			writeFile(t, path, tc.content)
			f := newFakeControl(t)
			f.revoked = []api.Revocation{{Index: 4, LoginID: "ses_somebodyelse222222222"}, {Index: 9, LoginID: "ses_somebodyelse222222222"}}
			w := startIn(t, dir, f)
			want := []api.Ack{{Index: 4}, {Index: 9}}
			if tc.after == 4 {
				want = want[1:]
			}
			eventually(t, "all acknowledgements", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) >= len(want) })
			if f.mu.Lock(); f.afters[0] != tc.after || !cmp.Equal(want, f.acks) {
				t.Errorf("asked after %d, acknowledged %+v", f.afters[0], f.acks)
			}
			f.mu.Unlock()
			if err := w.stop(); err != nil {
				t.Fatal(err)
			}
			if m, err := (feedStore{path}).load(); err != nil || m.Index != 9 {
				t.Errorf("remembered %+v, %v", m, err)
			}
		})
	}
}
