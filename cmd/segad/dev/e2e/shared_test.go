//go:build linux

package e2e

import (
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// TestSega runs what does not disturb each other in one environment: nobody is revoked for good,
// no policy, database or server is touched.
func TestSega(t *testing.T) {
	devtest.Need(t, "/usr/bin/aws", "/usr/bin/python3", "ssh", "scp", "sftp", "tmux", "vim", "git")
	e := devtest.Up(t)
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, e *devtest.Env)
	}{
		{"exec", testExec}, {"long", testLong}, {"env", testEnv}, {"profile", testProfile}, {"stale", testStale}, {"delivery", testDelivery}, {"serve", testServe},
		{"configure", testConfigure}, {"configure at once", testConfigureAtOnce}, {"import", testImport},
		{"ssh", testSSH}, {"copy", testCopy}, {"tools", testTools}, {"signal", testSignal}, {"identity", testIdentity},
		{"shell", testShell}, {"hangup", testHangup}, {"forward", testForward},
		{"access", testAccess}, {"query", testQuery}, {"escape", testEscape}, {"content", testContent}, {"counts", testCounts}, {"tail", testTail},
		{"export", testExport}, {"player", testPlayer}, {"session tail", testSessionTail},
		{"paste", testPaste}, {"paste on a terminal", testPasteTerminal}, {"device", testDevice}, {"cancel", testCancel}, {"logout", testLogout},
		{"other broker", testOtherBroker}, {"doctor", testDoctor}, {"errors", testErrors}, {"chain", testChain}, {"console", testConsole}, {"start", testStart}, {"host", testHost}, {"plain host", testPlainHost},
		{"rotate", testRotateCA},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, e.With(t)) })
	}
}
