package api_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"sega/broker/api"
)

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^ses_[a-km-np-z2-9]{20}$`)
	var mu sync.Mutex
	seen, letters := map[string]bool{}, map[rune]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				id := api.NewID(api.IDLogin)
				mu.Lock()
				if !form.MatchString(id) || seen[id] {
					t.Errorf("ID %q, seen before: %v", id, seen[id])
				}
				seen[id] = true
				for _, r := range strings.TrimPrefix(id, api.IDLogin) {
					letters[r] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(letters) != 32 { // 40,000 draws miss one of 32 letters about never
		t.Errorf("%d different letters, want all 32", len(letters))
	}
}

// TestNewToken: scanners find tokens by their prefix, and there are 256 random bits behind it.
func TestNewToken(t *testing.T) {
	seen := map[string]bool{}
	for _, prefix := range []string{api.PrefixSession, api.PrefixMachine, api.PrefixJoin} {
		form := regexp.MustCompile(`^` + prefix + `[A-Za-z0-9_-]{43}$`)
		for range 200 {
			token := string(api.NewToken(prefix).Reveal())
			if !form.MatchString(token) || seen[token] {
				t.Fatalf("token %q, seen before: %v", token, seen[token])
			}
			seen[token] = true
		}
	}
}
