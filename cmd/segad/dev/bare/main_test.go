//go:build linux

package bare

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
