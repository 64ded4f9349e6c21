package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

func TestIncludeFirst(t *testing.T) {
	const line, head = `Include "/h/.ssh/sega.conf"`, sshIncludeMark + "\n" + `Include "/h/.ssh/sega.conf"` + "\n"
	for name, tc := range map[string]struct{ was, want string }{
		"no file":                {"", head},
		"another's file":         {"Host *\n  User x\n", head + "Host *\n  User x\n"},
		"without a last newline": {"Host *", head + "Host *"},
		"carriage returns":       {"Host *\r\n", head + "Host *\r\n"},
		"there already":          {head + "Host *\n", head + "Host *\n"},
		"behind comments":        {"# mine\n\n" + line + "\nHost *\n", "# mine\n\n" + line + "\nHost *\n"},
		"too late":               {"Host *\n  StrictHostKeyChecking no\n" + head, head + "Host *\n  StrictHostKeyChecking no\n"},
		"inside of a block":      {"Host a\n  " + line + "\n", head + "Host a\n"},
	} {
		got := string(includeFirst([]byte(tc.was), "/h/.ssh/sega.conf"))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again := string(includeFirst([]byte(got), "/h/.ssh/sega.conf")); again != got {
			t.Errorf("%s: a second run makes %q of %q", name, again, got)
		}
		if left := string(withoutInclude([]byte(got), "/h/.ssh/sega.conf")); strings.Contains(left, "sega") {
			t.Errorf("%s: a removal leaves %q", name, left)
		}
	}
}

// TestConfigureSSH: the files of the person stay his own: what he links to, what else he has there, and what is there after a removal.
func TestConfigureSSH(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	file, config, own := filepath.Join(home, ".ssh", "sega.conf"), filepath.Join(home, ".ssh", "config"), filepath.Join(home, "dotfiles", "ssh")
	must(t, os.MkdirAll(filepath.Dir(own), 0o700))
	must(t, os.Mkdir(filepath.Dir(config), 0o700))
	const was = "Include other.conf\nHost *\n  User x\n"
	must(t, os.WriteFile(own, []byte(was), 0o640))
	must(t, os.Symlink("../dotfiles/ssh", config))
	a, _, talk := testApp(t)
	step := func(what, says string, do func() error, wantConfig, wantFile string) {
		t.Helper()
		talk.Reset()
		if err := do(); err != nil || !strings.Contains(talk.String(), says) {
			t.Errorf("%s: %v, %q", what, err, talk)
		}
		text, _ := os.ReadFile(own)
		block, _ := os.ReadFile(file)
		if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o640 || string(text) != wantConfig || string(block) != wantFile {
			t.Errorf("%s: %v, %v\n%s\n%s", what, info, err, text, block)
		}
		if to, err := os.Readlink(config); err != nil || to != "../dotfiles/ssh" {
			t.Errorf("%s: the link is %q, %v", what, to, err)
		}
	}
	head := sshIncludeMark + "\n" + includeLine(file) + "\n"
	write := func() error { return a.configureSSH(t.Context(), "Match all\n") }
	remove := func() error { return a.removeSSH(t.Context()) }
	step("first", "before everything else", write, head+was, "Match all\n")
	step("again", "nothing has changed", write, head+was, "Match all\n")
	step("removal", "is gone", remove, was, "")
	step("another removal", "nothing has changed", remove, was, "")

	must(t, os.Remove(config))
	must(t, os.Mkdir(config, 0o700)) // nothing can be written there
	var talked strings.Builder
	explain(&talked, write(), "configure")
	if !strings.Contains(talked.String(), includeLine(file)) {
		t.Errorf("it does not say what to do: %s", &talked)
	}
}

// TestHostKeyChecksStay has the real client read what configure --ssh writes, with a person's own file that
// switches every check off, before and behind, and a renewal that fails.
func TestHostKeyChecksStay(t *testing.T) {
	const soft = `Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /tmp/others
  VerifyHostKeyDNS yes
  UpdateHostKeys yes
  CheckHostIP yes
  NoHostAuthenticationForLocalhost yes
  HostKeyAlgorithms ssh-rsa,ssh-ed25519
  CanonicalizeHostname yes
  ProxyJump elsewhere
  ServerAliveInterval 7
  Port 2022
  HostName %h.corp.example
Host web-1
  StrictHostKeyChecking accept-new
  Compression yes
`
	for name, config := range map[string]string{"before": soft + "\n%s", "behind": "%s\n" + soft, "alone": "%s"} {
		for renewal, self := range map[string]string{"good": "/bin/true", "failing": "/bin/false"} {
			t.Run(name+", renewal "+renewal, func(t *testing.T) {
				home := t.TempDir()
				t.Setenv("HOME", home)
				if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(home, ".ssh", "config")
				was := strings.ReplaceAll(config, "%s", `Include "`+filepath.Join(home, ".ssh", "sega.conf")+`"`)
				if err := os.WriteFile(path, []byte(was), 0o600); err != nil {
					t.Fatal(err)
				}
				a, _, _ := testApp(t)
				dir := filepath.Join(home, "sega")
				common := sshCommon(dir, freshIdentity(dir, "none"))
				renew := renewCommand(dir, self)
				block := hostEntry(api.Host{Name: "web-1"}, renew, common) + "Match all\n"
				if err := a.configureSSH(t.Context(), block); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command("ssh", "-G", "-F", path, "web-1").CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				got := strings.Split(string(out), "\n")
				want := []string{"stricthostkeychecking true", "globalknownhostsfile /dev/null", "userknownhostsfile " + filepath.Join(dir, "ssh", "known_hosts"),
					"verifyhostkeydns false", "updatehostkeys false", "checkhostip no", "nohostauthenticationforlocalhost no", "hostkeyalgorithms " + hostKeyTypes,
					"canonicalizehostname false", "proxyjump sega-bastion", "hostkeyalias web-1", "hostname web-1", "port 22"}
				if name != "alone" { // what is no check of keys is the person's still
					want = append(want, "serveraliveinterval 7", "compression yes")
				}
				for _, option := range want {
					if !slices.Contains(got, option) {
						t.Errorf("no %q in\n%s", option, out)
					}
				}
				if other, err := exec.Command("ssh", "-G", "-F", path, "other").CombinedOutput(); err != nil || name != "alone" && !strings.Contains(string(other), "stricthostkeychecking false") {
					t.Errorf("hosts that are not sega's changed: %v\n%s", err, other)
				}
			})
		}
	}
}
