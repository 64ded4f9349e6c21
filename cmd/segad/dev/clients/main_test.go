//go:build linux

package clients

import (
	"os"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func TestMain(m *testing.M) {
	// What is tried here is what clients make of the bastion; under the race detector dev/e2e goes the same ways.
	if err := os.Setenv("SEGA_TEST_PLAIN", "1"); err != nil {
		panic(err)
	}
	code := m.Run()
	devtest.CleanUp()
	os.Exit(code)
}
