//go:build linux

package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func toolRows() []row {
	return []row{
		{client: "ansible", use: "ping, copy, fetch, shell", needs: []string{"ansible", "ansible-playbook", "/usr/bin/python3"}, run: ansible, moved: true, files: true,
			commands: []string{"exec /bin/sh -c", "subsystem sftp"}},
		{client: "rsync", use: "both ways", needs: []string{"rsync"}, run: rsync, moved: true, commands: []string{"exec rsync --server"}},
		{client: "git", use: "push, clone, fetch", needs: []string{"git"}, run: git, moved: true, commands: []string{"exec git-receive-pack", "exec git-upload-pack"}},
		{client: "sshfs", use: "mount, write, read", needs: []string{"sshfs", "fusermount3"}, run: sshfs, moved: true, files: true, commands: []string{"subsystem sftp"}},
	}
}

// playbook copies the data there and back, and tells a program's end from success.
const playbook = `
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
    - ansible.builtin.copy: {src: "%[1]s", dest: "%[2]s", mode: "0600"}
    - ansible.builtin.fetch: {src: "%[2]s", dest: "%[3]s", flat: true}
    - ansible.builtin.shell: echo out; exit 7
      register: told
      failed_when: told.rc != 7 or told.stdout != "out"
`

func ansible(t *testing.T, w *world) {
	there, back := w.fresh(t, "there"), w.fresh(t, "back")
	home := filepath.Dir(w.fresh(t, "home"))
	write := func(name, text string) string { return w.save(t, filepath.Join(filepath.Base(home), name), text) }
	config := write("ansible.cfg", fmt.Sprintf("[defaults]\ninventory = %[1]s/hosts\nlocal_tmp = %[1]s/local\nhost_key_checking = true\n"+
		"[ssh_connection]\npipelining = true\nssh_args = -F %[2]s -o ControlMaster=auto -o ControlPersist=30s\ncontrol_path_dir = %[1]s/cp\n", home, w.config))
	write("hosts", fmt.Sprintf("%s ansible_python_interpreter=/usr/bin/python3 ansible_remote_tmp=%s/remote\n", w.Host.Name, home))
	run := func(argv ...string) devtest.Result {
		return w.Run("env", append([]string{"HOME=" + home, "ANSIBLE_CONFIG=" + config, "LC_ALL=C.UTF-8"}, argv...)...)
	}
	expect(t, run("ansible-playbook", write("play.yml", fmt.Sprintf(playbook, w.data, there, back))), 0, "failed=0")
	w.same(t, there, back)
	expect(t, run("ansible", "all", "-m", "shell", "-a", "exit 7"), 2, "rc=7")
	// The shared connection would outlive the row.
	sockets, err := filepath.Glob(filepath.Join(home, "cp", "*"))
	if err != nil || len(sockets) != 1 {
		t.Errorf("shared connections: %q, %v", sockets, err)
	}
	for _, s := range sockets {
		expect(t, run("ssh", "-F", w.config, "-o", "ControlPath="+s, "-O", "exit", w.Host.Name), 0)
	}
}

func rsync(t *testing.T, w *world) {
	there, back := w.fresh(t, "there"), w.fresh(t, "back")
	shell := "ssh -F " + w.config
	expect(t, w.Run("rsync", "-ac", "-e", shell, w.data, w.Host.Name+":"+there), 0)
	expect(t, w.Run("rsync", "-ac", "-e", shell, w.Host.Name+":"+there, back), 0)
	w.same(t, there, back)
	// What is the same by checksum is not sent again.
	expect(t, w.Run("rsync", "-aci", "-e", shell, w.data, w.Host.Name+":"+there), 0)
	expect(t, w.Run("rsync", "-a", "-e", shell, w.Host.Name+":"+there+"-not", back), 23, "No such file")
}

func git(t *testing.T, w *world) {
	bare, tree, clone := w.fresh(t, "bare.git"), w.fresh(t, "tree"), w.fresh(t, "clone")
	run := func(args ...string) devtest.Result {
		return w.Run("env", append([]string{"GIT_SSH_COMMAND=ssh -F " + w.config, "GIT_CONFIG_GLOBAL=/dev/null", "git", "-c", "user.name=A", "-c", "user.email=a@example.com"}, args...)...)
	}
	remote := w.Host.Name + ":" + bare
	expect(t, run("init", "-q", "--bare", bare), 0)
	expect(t, run("init", "-q", "-b", "main", tree), 0)
	content, err := os.ReadFile(w.data)
	if err == nil {
		err = os.WriteFile(filepath.Join(tree, "data"), content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	expect(t, run("-C", tree, "add", "data"), 0)
	expect(t, run("-C", tree, "commit", "-q", "-m", "first"), 0)
	expect(t, run("-C", tree, "push", "-q", remote, "main"), 0)
	expect(t, run("clone", "-q", "-b", "main", remote, clone), 0)
	w.same(t, filepath.Join(clone, "data"))
	expect(t, run("-C", tree, "commit", "-q", "--allow-empty", "-m", "second"), 0)
	expect(t, run("-C", tree, "push", "-q", remote, "main"), 0)
	expect(t, run("-C", clone, "pull", "-q"), 0)
	expect(t, run("-C", clone, "log", "--format=%s"), 0, "second\nfirst")
	expect(t, run("-C", clone, "fsck", "--full"), 0)
	expect(t, run("clone", "-q", remote+"-not", clone+"2"), 128, "does not appear to be a git repository")
}

func sshfs(t *testing.T, w *world) {
	needFile(t, "/dev/fuse", "sshfs needs FUSE")
	there := filepath.Dir(w.fresh(t, "x"))
	mount := filepath.Dir(w.fresh(t, "x"))
	expect(t, w.Run("sshfs", "-F", w.config, w.Host.Name+":"+there, mount), 0)
	unmount := func() devtest.Result { return w.Run("fusermount3", "-u", mount) }
	mounted := true
	defer func() {
		if mounted {
			unmount()
		}
	}()
	expect(t, w.Run("cp", w.data, filepath.Join(mount, "file")), 0)
	w.same(t, filepath.Join(there, "file"))
	// By another name, lest the mount's cache answers.
	expect(t, w.Run("cp", w.data, filepath.Join(there, "other")), 0)
	w.same(t, filepath.Join(mount, "other"))
	expect(t, w.Run("mv", filepath.Join(mount, "file"), filepath.Join(mount, "moved")), 0)
	expect(t, w.Run("rm", filepath.Join(mount, "moved")), 0)
	if _, err := os.Stat(filepath.Join(there, "moved")); !os.IsNotExist(err) {
		t.Errorf("what was removed is there: %v", err)
	}
	expect(t, unmount(), 0)
	mounted = false
}
