package main

import (
	"os"
	"slices"
	"testing"

	"sega/broker/api"
)

// TestFrontCAsComeWithCertificates: while the front CA rotates, what trusts bastions follows the certificates, and takes no
// more than keys from a broker.
func TestFrontCAsComeWithCertificates(t *testing.T) {
	const first, next = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII4OlQtyGPoQ21hAjkEuyVl/rCWSOyOh3irdzB/pYtZK", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1kYJ6RBPqQ3dYxjwmFvCjZQ9yS2fdbFZmOG0RsZfXo"
	s := fakeBroker(t, nil)
	s.pin(t, api.Configuration{Bastion: "bastion.example:2222", BastionName: "bastion-1", FrontCAs: []string{first}})
	if err := s.app.writeFile("ssh/known_hosts", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.app.learnFront([]string{first, next}); err != nil {
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
		err := s.app.learnFront(lines)
		if (err == nil) != (lines == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := s.app.pinned(); err != nil || !slices.Equal(p.Configuration.FrontCAs, []string{first, next}) {
			t.Errorf("%s: %v %v", name, err, p.Configuration.FrontCAs)
		}
	}
}
