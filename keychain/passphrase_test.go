package keychain

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sega/keychain/secret"
)

func TestPassphrase(t *testing.T) {
	var prompts []string
	answers := []string{}
	cfg := Config{Dir: filepath.Join(t.TempDir(), "sega"), Backend: BackendPassphrase, Passphrase: func(prompt string) (secret.Secret, error) {
		prompts = append(prompts, prompt)
		if len(answers) == 0 {
			return secret.Secret{}, errors.New("no terminal")
		}
		a := answers[0]
		answers = answers[1:]
		return secret.FromString(a), nil
	}}
	open := func() *Store {
		t.Helper()
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a terminal: %v", err)
	}
	answers = []string{"horse", "house"}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("two passphrases: %v", err)
	}
	answers = []string{""}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an empty passphrase: %v", err)
	}
	answers = []string{"horse", "horse"}
	s := open()
	put(t, s, "a", "1")
	put(t, s, "b", "2")
	wantItem(t, s, "a", "1") // the key is remembered
	if d := s.Describe(); d.Backend != BackendPassphrase {
		t.Errorf("%+v", d)
	}
	prompts, answers = nil, []string{"house"}
	if _, err := open().Get("a"); !errors.Is(err, ErrPassphrase) || strings.Contains(err.Error(), "house") {
		t.Errorf("got %v", err)
	}
	answers = []string{"horse"}
	s = open()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { wantItem(t, s, "a", "1") })
	}
	wg.Wait()
	if len(prompts) != 2 {
		t.Errorf("asked %d times: %q", len(prompts), prompts)
	}
	keys, err := filepath.Glob(filepath.Join(cfg.Dir, "key-*"))
	if err != nil || len(keys) != 0 {
		t.Errorf("a key lies about: %v %v", keys, err)
	}
}
