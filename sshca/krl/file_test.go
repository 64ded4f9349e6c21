package krl

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestReplaceUnderLoad (§0.4 of what is known of sshd): whoever reads the file while it is replaced finds one of the
// lists, whole.
func TestReplaceUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	var versions [2][]byte
	for i := range versions {
		l := List{Version: uint64(i + 1), Generated: made}
		for n := range 2000 * (i + 1) {
			l.CAs = append(l.CAs, Certificates{CA: public(t, "front CA"), Serials: []Range{Serial(uint64(2*n + 1))}})
		}
		versions[i] = marshal(t, l)
	}
	if err := Replace(path, versions[0]); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, versions[0]) && !bytes.Equal(got, versions[1]) {
					t.Errorf("%d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range 100 {
		if err := Replace(path, versions[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v: sshd reads it as whoever it runs as", info.Mode(), err)
	}
}

// TestReplaceKeepsTheOld: what is no KRL takes nothing's place.
func TestReplaceKeepsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	good := marshal(t, everyKind(t))
	for name, bad := range map[string][]byte{"nothing": nil, "half of it": good[:len(good)/2], "text": []byte("<html>")} {
		if err := Replace(path, bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is a file: %v", name, err)
		}
	}
	if err := Replace(path, good); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, nil); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, good) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := Replace(filepath.Join(path, "x"), good); err == nil {
		t.Error("a file in a file")
	}
}
