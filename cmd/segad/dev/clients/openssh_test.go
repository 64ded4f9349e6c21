//go:build linux

package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func opensshRows() []row {
	return []row{
		{client: "sega ssh", use: "exec", run: segaExec, commands: []string{"exec " + apart}},
		{client: "sega ssh", use: "both ways through cat", needs: []string{"sh"}, more: true, run: segaCat, moved: true, commands: []string{"exec cat"}},
		{client: "ssh", use: "exec, configured block", run: sshExec((*world).agent), commands: []string{"exec " + apart}},
		{client: "ssh", use: "exec, key in files", more: true, run: sshExec((*world).inFiles), commands: []string{"exec " + apart}},
		{client: "ssh", use: "USER%HOST@BASTION", more: true, run: sshExec((*world).percent), commands: []string{"exec " + apart}},
		{client: "ssh", use: "-J by hand", more: true, run: sshExec((*world).jump), commands: []string{"exec " + apart}},
		{client: "ssh", use: "terminal", needs: []string{"script"}, more: true, run: sshTerminal, commands: []string{"shell "}},
		{client: "ssh", use: "ControlMaster", more: true, run: sshMaster, moved: true, commands: []string{"exec cat", "exec echo shared"}},
		{client: "ssh", use: "new keys every 64 KiB", run: sshRekey, moved: true, commands: []string{"exec cat"}},
		{client: "ssh", use: "environment", run: sshEnvironment, commands: []string{"exec echo"}},
		{client: "ssh", use: "signals and 255", more: true, run: sshEnds, commands: []string{"exec kill -9 $$"}},
		{client: "scp", use: "SFTP protocol", needs: []string{"scp"}, run: scp(), moved: true, files: true, commands: []string{"subsystem sftp"}},
		{client: "scp", use: "old protocol (-O)", needs: []string{"scp"}, more: true, run: scp("-O"), moved: true, files: true, commands: []string{"exec scp -t", "exec scp -f"}},
		{client: "scp", use: "folder", needs: []string{"scp"}, more: true, run: scpFolder, moved: true, files: true, commands: []string{"subsystem sftp"}},
		{client: "sftp", use: "batch", needs: []string{"sftp"}, more: true, run: sftpBatch, moved: true, files: true, commands: []string{"subsystem sftp"}},
	}
}

// Ways of stock ssh, before the command.
func (w *world) agent(testing.TB) []string   { return []string{"-F", w.config, w.Host.Name} }
func (w *world) inFiles(testing.TB) []string { return []string{"-F", w.files, w.Host.Name} }
func (w *world) percent(t testing.TB) []string {
	return []string{"-F", w.hand(t), "-p", w.port, w.Host.Login + "%" + w.Host.Name + "@" + w.addr}
}
func (w *world) jump(t testing.TB) []string {
	return []string{"-F", w.hand(t), "-J", "anybody@" + w.Bastion, w.Host.Login + "@" + w.Host.Name}
}

// hand is what somebody writes who has key, certificate and the front CA in files. ssh gives -F, and no -o, to the
// client of the jump.
func (w *world) hand(t testing.TB) string {
	return w.save(t, "hand", fmt.Sprintf(`IdentityFile %[1]s
CertificateFile %[1]s-cert.pub
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile %[2]s/ssh/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
Host %[3]s
    HostKeyAlias dev-bastion
`, w.key, w.Home, w.addr))
}

func segaExec(t *testing.T, w *world) { tellApart(t, w.Sega("ssh", w.Host.Name, "--", apart)) }

func segaCat(t *testing.T, w *world) {
	back := w.fresh(t, "back")
	expect(t, w.Run("sh", "-c", `sega ssh "$0" -- cat <"$1" >"$2"`, w.Host.Name, w.data, back), 0)
	w.same(t, back)
}

func sshExec(way func(*world, testing.TB) []string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) { tellApart(t, w.Run("ssh", append(way(w, t), apart)...)) }
}

// sshTerminal types at a shell on a terminal of an odd size.
func sshTerminal(t *testing.T, w *world) {
	line := fmt.Sprintf("stty cols 123 rows 45; exec ssh -F %s -t %s", w.config, w.Host.Name)
	r := w.RunInput("stty size; test -t 0 && echo a-'terminal'; exit 4\n", "script", "-qec", line, "/dev/null")
	expect(t, r, 4, "45 123", "a-terminal", "this session is recorded")
}

// sshMaster shares a connection, as ansible and editors do.
func sshMaster(t *testing.T, w *world) {
	back := w.fresh(t, "back")
	shared := []string{"-F", w.config, "-o", "ControlMaster=auto", "-o", "ControlPath=" + filepath.Join(w.dir, "%C"), "-o", "ControlPersist=yes"}
	for i, code := range []int{1, 0, 2} {
		expect(t, w.Run("ssh", append(shared, w.Host.Name, fmt.Sprintf("echo shared %d; exit %d", i, code))...), code, fmt.Sprintf("shared %d\n", i))
	}
	expect(t, w.Run("sh", append([]string{"-c", `in=$0 out=$1; shift; exec ssh "$@" cat <"$in" >"$out"`, w.data, back}, append(shared, w.Host.Name)...)...), 0)
	w.same(t, back)
	expect(t, w.Run("ssh", append(shared, "-O", "check", w.Host.Name)...), 0, "Master running")
	expect(t, w.Run("ssh", append(shared, "-O", "exit", w.Host.Name)...), 0)
}

// sshRekey changes keys on both connections of the jump, many times within one transfer.
func sshRekey(t *testing.T, w *world) {
	back := w.fresh(t, "back")
	r := expect(t, w.Run("sh", "-c", `exec ssh -v -o RekeyLimit=64k -F "$0" "$1" cat <"$2" >"$3"`, w.config, w.Host.Name, w.data, back), 0)
	w.same(t, back)
	if n := strings.Count(r.Err, "SSH2_MSG_NEWKEYS sent"); n < 10 {
		t.Errorf("keys were changed %d times", n)
	}
}

func sshEnvironment(t *testing.T, w *world) {
	r := expect(t, w.Run("env", "LC_SEGA=a b'c", "ssh", "-o", "SendEnv=LC_SEGA", "-F", w.config, w.Host.Name, `echo "[$LC_SEGA]"`), 0)
	if r.Out != "[a b'c]\n" {
		t.Errorf("%q", r.Out)
	}
}

// sshEnds wants the ends of programs that ssh(1) promises.
func sshEnds(t *testing.T, w *world) {
	for _, tt := range []struct {
		command string
		code    int
	}{{"kill -9 $$", 255}, {"exit 255", 255}, {"no-such-program", 127}, {"true", 0}} {
		if r := w.Run("ssh", append(w.agent(t), tt.command)...); r.Code != tt.code {
			t.Errorf("%s: exit %d, want %d\n%s", tt.command, r.Code, tt.code, r.Err)
		}
	}
}

func scp(more ...string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		there, back := w.fresh(t, "there"), w.fresh(t, "back")
		args := append([]string{"-q", "-F", w.config}, more...)
		expect(t, w.Run("scp", append(args, w.data, w.Host.Name+":"+there)...), 0)
		expect(t, w.Run("scp", append(args, w.Host.Name+":"+there, back)...), 0)
		w.same(t, there, back)
		expect(t, w.Run("scp", append(args, w.Host.Name+":"+there+"-not", back)...), 1, "No such file")
	}
}

func scpFolder(t *testing.T, w *world) {
	tree := w.fresh(t, "tree")
	for _, name := range []string{"one", "deep/two"} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(w.data)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	there, back := w.fresh(t, "there"), w.fresh(t, "back")
	expect(t, w.Run("scp", "-rpq", "-F", w.config, tree, w.Host.Name+":"+there), 0)
	expect(t, w.Run("scp", "-rpq", "-F", w.config, w.Host.Name+":"+there, back), 0)
	w.same(t, filepath.Join(there, "one"), filepath.Join(back, "one"), filepath.Join(back, "deep/two"))
	if info, err := os.Stat(filepath.Join(back, "one")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode has changed: %v, %v", info, err)
	}
}

func sftpBatch(t *testing.T, w *world) {
	there, back := w.fresh(t, "there"), w.fresh(t, "back")
	batch := w.save(t, "batch", strings.Join([]string{"put " + w.data + " " + there, "rename " + there + " " + there + "2", "ls -l " + there + "2",
		"get " + there + "2 " + back, "chmod 600 " + there + "2", "-rm " + there + "-not", ""}, "\n"))
	expect(t, w.Run("sftp", "-F", w.config, "-b", batch, w.Host.Name), 0, "there2")
	w.same(t, there+"2", back)
	failing := w.save(t, "failing", "get "+there+"-not "+back+"\n")
	expect(t, w.Run("sftp", "-F", w.config, "-b", failing, w.Host.Name), 1, "not found")
}
