package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLockData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	unlock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "another process uses the data folder "+dir) {
		t.Errorf("a second one: %v", err)
	}
	unlock()
	again, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
