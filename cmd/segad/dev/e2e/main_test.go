//go:build linux

package e2e

import (
	"os"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	devtest.CleanUp()
	os.Exit(code)
}
