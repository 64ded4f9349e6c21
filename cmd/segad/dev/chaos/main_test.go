//go:build linux

package chaos

import (
	"flag"
	"os"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func TestMain(m *testing.M) {
	// Restarts are held against the lease, by the clock: the servers run without the race detector,
	// under which opening the CAs' keys alone takes seconds. The tests' own code runs under it.
	if err := os.Setenv("SEGA_TEST_PLAIN", "1"); err != nil {
		panic(err)
	}
	// What runs beside others here waits for answers that do not come, and costs no processor.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	devtest.CleanUp()
	_ = os.RemoveAll(clockProgram.dir)
	os.Exit(code)
}

// times is how often something is done: in full where SEGA_SOAK asks for it, else a tenth.
func times(full int) int {
	if os.Getenv("SEGA_SOAK") == "1" {
		return full
	}
	return max(1, full/10)
}
