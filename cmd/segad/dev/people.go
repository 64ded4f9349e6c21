//go:build linux

package dev

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"

	"sega/cmd/segad/dev/freeport"
	"sega/cmd/segad/dev/provider"
	"sega/keychain/atomicfile"
)

// Person is somebody who can log in at the provider.
type Person struct {
	Email       string   `json:"email"`
	Password    string   `json:"password"`
	TOTPSecret  string   `json:"totp_secret"` // base32; empty where no second factor is enrolled
	Groups      []string `json:"groups"`
	AgeIdentity string   `json:"age_identity,omitempty"` // path; reviewers only
	Subject     string   `json:"sub"`
	Name        string   `json:"name"`
}

// saved is what survives a restart with the same folder. All of it is made up for this folder.
type saved struct {
	Users          []Person       `json:"users"`
	Ports          map[string]int `json:"ports"`
	AWSKeyID       string         `json:"aws_key_id"`
	AWSSecret      string         `json:"aws_secret"`
	ReviewerAge    string         `json:"reviewer_age"` // recipients
	RecoveryAge    string         `json:"recovery_age"`
	RedirectPorts  []int          `json:"redirect_ports"`
	LogVerifierKey string         `json:"log_verifier_key"`
}

// The people of design: what each may do is in policy/*.cedar.
var cast = []struct {
	name, email, sub string
	mfa, reviewer    bool
	groups           []string
}{
	{"Alice", "alice@example.com", "00ualice", true, false, []string{"engineering"}},
	{"Bob", "bob@example.com", "00ubob", true, false, []string{"engineering", "oncall"}},
	{"Sam", "sam@example.com", "00usam", true, false, []string{"security"}},
	{"Carol", "carol@example.com", "00ucarol", true, true, []string{"reviewers"}},
	{"Mallory", "mallory@example.com", "00umallory", false, false, []string{"engineering"}},
}

func (e *environment) loadSaved() error {
	data, err := os.ReadFile(e.file("saved.json"))
	if errors.Is(err, os.ErrNotExist) {
		return e.makeSaved()
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &e.saved); err != nil {
		return fmt.Errorf("%s is damaged: start with a new --data folder", e.file("saved.json"))
	}
	return nil
}

// makeSaved makes up people, secrets and ports.
func (e *environment) makeSaved() error {
	for _, p := range cast {
		person := Person{Name: p.name, Email: p.email, Subject: p.sub, Password: randomText(12), Groups: p.groups}
		if p.mfa {
			person.TOTPSecret = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(randomBytes(20))
		}
		if p.reviewer {
			person.AgeIdentity = e.file("reviewer.age")
		}
		e.saved.Users = append(e.saved.Users, person)
	}
	var err error
	if e.saved.ReviewerAge, err = makeAge(e.file("reviewer.age")); err != nil {
		return err
	}
	if e.saved.RecoveryAge, err = makeAge(e.file("offline-recovery.age")); err != nil {
		return err
	}
	e.saved.AWSKeyID, e.saved.AWSSecret = "ASIADEV"+base32.StdEncoding.EncodeToString(randomBytes(10))[:13], randomText(30)
	e.saved.Ports = map[string]int{}
	var ports []int
	for _, name := range []string{"provider", "sts", "console", "broker", "bastion", "host", "", "", ""} {
		port, err := freeport.Pick(ports...)
		if err != nil {
			return err
		}
		if ports = append(ports, port); name == "" {
			e.saved.RedirectPorts = append(e.saved.RedirectPorts, port)
		} else {
			e.saved.Ports[name] = port
		}
	}
	return e.save()
}

func (e *environment) save() error {
	data, err := json.MarshalIndent(e.saved, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(e.file("saved.json"), data, 0o600)
}

// port returns the port of a server: the one of the last run where it is free.
func (e *environment) port(name string) (int, error) {
	if port := e.saved.Ports[name]; port != 0 && freeport.Free(port) {
		return port, nil
	}
	if name == "provider" && e.saved.Ports[name] != 0 {
		return 0, fmt.Errorf("port %d is taken, and it is part of the provider's issuer, which people are known by: free it, or start with a new --data folder", e.saved.Ports[name])
	}
	port, err := freeport.Pick()
	if err != nil {
		return 0, err
	}
	e.saved.Ports[name] = port
	return port, e.save()
}

func makeAge(path string) (recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	return id.Recipient().String(), atomicfile.Replace(path, []byte("# public key: "+id.Recipient().String()+"\n"+id.String()+"\n"), 0o600)
}

func (e *environment) providerUsers() []provider.User {
	var out []provider.User
	for _, p := range e.saved.Users {
		out = append(out, provider.User{Email: p.Email, Name: p.Name, Subject: p.Subject, Password: p.Password, TOTPSecret: p.TOTPSecret, Groups: p.Groups})
	}
	return out
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func randomText(n int) string { return base64.RawURLEncoding.EncodeToString(randomBytes(n)) }
