package indexer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/broker/api"
)

// TestFetchIsBounded: a broker that sends without end fills no disk.
func TestFetchIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		want int64
	}{"shorter": {"abc", 3}, "as long": {"abcde", 5}, "longer": {strings.Repeat("x", 1000), 6}} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := fetch(f, strings.NewReader(c.sent), 5); err != nil {
				t.Fatal(err)
			}
			if info, err := f.Stat(); err != nil || info.Size() != c.want {
				t.Errorf("%d bytes, %v, want %d", info.Size(), err, c.want)
			}
		})
	}
}

// TestRefused: what is the trouble of one recording holds up no other; what is everybody's is tried again.
func TestRefused(t *testing.T) {
	for kind, want := range map[api.Kind]bool{
		api.KindDenied: true, api.KindMFA: true, api.KindStepUp: true, api.KindNotFound: true, api.KindInternal: true, api.KindInvalid: true, api.KindConflict: true,
		api.KindUnavailable: false, api.KindUnreachable: false, api.KindUnauthenticated: false, api.KindRateLimited: false, api.KindRevoked: false,
	} {
		if _, known := refused(api.Errorf(kind, "no")); known != want {
			t.Errorf("%s: the recording's own trouble is %v, want %v", kind, known, want)
		}
	}
	if _, known := refused(errors.New("cut")); known {
		t.Error("a lost connection counts as the recording's trouble")
	}
}
