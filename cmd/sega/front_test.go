package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestFrontCAsComeWithCertificates: while the front CA rotates, what trusts bastions follows the certificates, and takes no
// more than keys from a broker.
func TestFrontCAsComeWithCertificates(t *testing.T) {
	const origin = "https://sega.example"
	const first, next = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII4OlQtyGPoQ21hAjkEuyVl/rCWSOyOh3irdzB/pYtZK", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1kYJ6RBPqQ3dYxjwmFvCjZQ9yS2fdbFZmOG0RsZfXo"
	s := fakeBroker(t, nil)
	s.pin(t, api.Configuration{Origin: origin, Bastion: "bastion.example:2222", BastionName: "bastion-1", FrontCAs: []string{first}})
	if err := s.app.writeFile("ssh/known_hosts", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.app.learnFront(t.Context(), origin, []string{first, next}); err != nil {
		t.Fatal(err)
	}
	path, err := s.app.path("ssh", "known_hosts")
	if err != nil {
		t.Fatal(err)
	}
	want := "@cert-authority * " + first + "\n@cert-authority * " + next + "\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("known_hosts: %v\n%s", err, got)
	}
	for name, lines := range map[string][]string{"a line more": {first + "\n* " + next}, "no key": {"canary"}, "none": nil} {
		err := s.app.learnFront(t.Context(), origin, lines)
		if (err == nil) != (lines == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := s.app.pinned(); err != nil || !slices.Equal(p.Configuration.FrontCAs, []string{first, next}) {
			t.Errorf("%s: %v %v", name, err, p.Configuration.FrontCAs)
		}
	}
}

// TestFrontCAsComeWithALogin: a laptop that missed a rotation learns the new CA by its login, and certificates bring it no
// news of it then. A broker whose list is more than keys writes nothing into what stock ssh trusts.
func TestFrontCAsComeWithALogin(t *testing.T) {
	const front = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII4OlQtyGPoQ21hAjkEuyVl/rCWSOyOh3irdzB/pYtZK"
	for name, c := range map[string]struct {
		before string // of known_hosts; "" for no file
		lines  []string
		want   string
		bad    bool
	}{
		"a block is in use":    {"old", []string{front}, "@cert-authority * " + front + "\n", false},
		"no block is in use":   {"", []string{front}, "", false},
		"a broker without any": {"old", nil, "", false},
		"a line more":          {"old", []string{front + "\n* " + front}, "old", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := fakeBroker(t, nil)
			path, err := s.app.path("ssh", "known_hosts")
			must(t, err)
			if c.before != "" {
				must(t, s.app.writeFile("ssh/known_hosts", []byte(c.before), 0o600))
			}
			err = s.app.keep(t.Context(), s.saved(), api.Configuration{Origin: "https://sega.example", FrontCAs: c.lines})
			if (err != nil) != c.bad {
				t.Errorf("the login: %v", err)
			}
			got, err := os.ReadFile(path)
			if string(got) != c.want || (err == nil) != (c.before != "") {
				t.Errorf("known_hosts: %v\n%s", err, got)
			}
		})
	}
}

// TestPinnedIsWrittenInTurn: what one process remembers of a broker no other one takes back.
func TestPinnedIsWrittenInTurn(t *testing.T) {
	const front = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII4OlQtyGPoQ21hAjkEuyVl/rCWSOyOh3irdzB/pYtZK"
	s := fakeBroker(t, nil)
	s.pin(t, api.Configuration{Origin: "https://new.example"})
	before, err := s.app.pinned()
	must(t, err)
	must(t, s.app.learnFront(t.Context(), "https://old.example", []string{front})) // certified before the login to the new one
	done, err := s.app.turn(t.Context(), pinnedFile)
	must(t, err)
	defer done()
	ended, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for long here
	if err := s.app.learnFront(ended, "https://new.example", []string{front}); !errors.Is(err, context.Canceled) {
		t.Errorf("front CAs are learnt out of turn: %v", err)
	}
	if err := s.app.keep(ended, s.saved(), api.Configuration{Origin: "https://third.example"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a login is kept out of turn: %v", err)
	}
	now, err := s.app.pinned()
	must(t, err)
	if diff := cmp.Diff(before, now); diff != "" {
		t.Error(diff)
	}
}

// TestChecksStayInSSH has the real client read what `sega ssh` gives it, with a person's own file that switches checks of
// host keys off.
func TestChecksStayInSSH(t *testing.T) {
	s := fakeBroker(t, nil)
	s.pin(t, api.Configuration{Bastion: "bastion.example:2222", BastionName: "bastion-1"})
	args, err := s.sshArgs(t.Context(), t.TempDir(), nil, "deploy", "web-1")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	soft := "Host *\n  StrictHostKeyChecking no\n  VerifyHostKeyDNS yes\n  NoHostAuthenticationForLocalhost yes\n  HostKeyAlgorithms ssh-ed25519\n  CheckHostIP yes\n  CanonicalizeHostname yes\n  Compression yes\n"
	if err := os.WriteFile(config, []byte(soft), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", append([]string{"-G", "-F", config}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(string(out), "\n")
	for _, option := range []string{"stricthostkeychecking true", "globalknownhostsfile /dev/null", "verifyhostkeydns false", "nohostauthenticationforlocalhost no",
		"hostkeyalgorithms " + hostKeyTypes, "checkhostip no", "canonicalizehostname false", "hostkeyalias bastion-1", "user deploy+web-1", "compression yes"} {
		if !slices.Contains(got, option) {
			t.Errorf("no %q in\n%s", option, out)
		}
	}
}
