package bastion

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails where a goroutine of a bastion, or one that x/crypto runs for it, outlives the
// tests, all of which stop their bastions.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		recordUntilKilled(dir)
		return
	}
	code := m.Run()
	if code == 0 {
		if left := leaked(patience); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines left over:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

func leaked(within time.Duration) string {
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		buf := make([]byte, 8<<20)
		buf = buf[:runtime.Stack(buf, true)]
		var left []string
		for _, g := range strings.Split(string(buf), "\n\n") {
			if (strings.Contains(g, "broker/bastion.") || strings.Contains(g, "x/crypto/ssh.")) && !strings.Contains(g, "bastion.TestMain") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}
