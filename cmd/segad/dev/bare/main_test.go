//go:build linux

package bare

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func TestMain(m *testing.M) {
	// Under nohup SIGHUP is ignored, and would be by all that is started here. What is caught is not inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	code := m.Run()
	devtest.CleanUp()
	os.Exit(code)
}
