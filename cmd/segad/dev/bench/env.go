//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sega/cmd/segad/dev"
)

const (
	crowd    = 100 // people made for loads, each of whom is limited on their own
	upTime   = 90 * time.Second
	downTime = 30 * time.Second
	pollTime = 20 * time.Millisecond
)

// environment is a running `segad dev up` with a crowd of engineers.
type environment struct {
	dev.Dev
	data, bin string
	crowd     []dev.Person // not yet drawn
	up        *exec.Cmd
	done      chan struct{}
}

// binaries builds sega and segad as `make build` does and returns their folder.
func (b *bench) binaries() (string, error) {
	dir := filepath.Join(b.dir, "bin")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Fprintln(b.talk, "building sega and segad")
	return dir, errors.Join(b.build(dir+"/", "sega/cmd/sega"), b.build(dir+"/", "sega/cmd/segad"))
}

// build compiles static, stripped programs, sega with what keeps it small.
func (b *bench) build(out string, packages ...string) error {
	flags := []string{"build", "-trimpath", "-tags", b.tags, "-ldflags", "-s -w", "-o", out}
	if packages[0] == "sega/cmd/sega" {
		flags = []string{"build", "-trimpath", "-gcflags=sega/...=-l", "-gcflags=github.com/...=-l", "-gcflags=golang.org/...=-l", "-gcflags=filippo.io/...=-l", "-gcflags=net/http/...=-l", "-ldflags", "-s -w -funcalign=16", "-o", out}
	}
	c := exec.CommandContext(b.ctx, "go", append(flags, packages...)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(packages, " "), err, text)
	}
	return nil
}

// environment starts everything on first use.
func (b *bench) environment() (*environment, error) {
	if b.env != nil {
		return b.env, nil
	}
	bin, err := b.binaries()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(b.talk, "starting segad dev up")
	e := &environment{data: filepath.Join(b.dir, "dev"), bin: bin}
	b.env = e
	// The first start makes the folder; the crowd joins between two starts.
	if err := e.start(b.ctx); err != nil {
		return nil, err
	}
	if err := e.stop(); err != nil {
		return nil, err
	}
	if err := e.invite(); err != nil {
		return nil, err
	}
	return e, e.start(b.ctx)
}

// invite adds the crowd to the people of the folder.
func (e *environment) invite() error {
	path := filepath.Join(e.data, "saved.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var saved map[string]json.RawMessage
	if err := json.Unmarshal(raw, &saved); err != nil {
		return err
	}
	var people []dev.Person
	if err := json.Unmarshal(saved["users"], &people); err != nil {
		return err
	}
	for i := range crowd {
		name := fmt.Sprintf("crowd-%03d", i)
		key := make([]byte, 20)
		rand.Read(key)
		e.crowd = append(e.crowd, dev.Person{Name: name, Email: name + "@example.com", Subject: "00u" + name, Password: rand.Text(),
			TOTPSecret: base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key), Groups: []string{"engineering"}})
	}
	if saved["users"], err = json.Marshal(append(people, e.crowd...)); err != nil {
		return err
	}
	if raw, err = json.Marshal(saved); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// start runs the environment until everything answers.
func (e *environment) start(ctx context.Context) error {
	log, err := os.OpenFile(e.data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	e.up, e.done = exec.Command(filepath.Join(e.bin, "segad"), "dev", "up", "--data", e.data), make(chan struct{})
	e.up.Stdout, e.up.Stderr = log, log
	if err := startTied(e.up); err != nil {
		return err
	}
	up, done := e.up, e.done
	go func() { _ = up.Wait(); close(done) }() // ends with stop
	return await(ctx, upTime, "segad dev up", func() error {
		select {
		case <-e.done:
			text, _ := os.ReadFile(log.Name())
			return final{fmt.Errorf("it ended: %s", text)}
		default:
		}
		e.Dev, err = dev.Read(e.data)
		return err
	})
}

func (e *environment) stop() error {
	if e.up == nil || e.up.Process == nil {
		return nil
	}
	_ = e.up.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.done:
		return nil
	case <-time.After(downTime):
		return errors.Join(errors.New("segad dev up does not stop"), e.up.Process.Kill())
	}
}

// startTied starts a process in a group of its own that ends with this one.
func startTied(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return c.Start()
}

// someone returns one of the people of dev.json.
func (e *environment) someone(email string) (dev.Person, error) {
	for _, p := range e.Users {
		if p.Email == email {
			return p, nil
		}
	}
	return dev.Person{}, fmt.Errorf("nobody is called %s", email)
}

// draw takes n people of the crowd whom nobody has used yet.
func (e *environment) draw(n int) ([]dev.Person, error) {
	if len(e.crowd) < n {
		return nil, fmt.Errorf("the crowd has %d people left, not %d", len(e.crowd), n)
	}
	out := e.crowd[:n]
	e.crowd = e.crowd[n:]
	return out, nil
}

// environ is what a person's commands see: nothing of another sega or AWS account, and what dev.json says.
func (e *environment) environ(home string) []string {
	var out []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "SEGA_") || strings.HasPrefix(name, "AWS_") || name == "BROWSER" || name == "DBUS_SESSION_BUS_ADDRESS" || name == "SSH_AUTH_SOCK" {
			continue
		}
		out = append(out, kv)
	}
	for name, value := range e.Env {
		out = append(out, name+"="+value)
	}
	return append(out, "SEGA_HOME="+home)
}

// final is an error that waiting does not mend.
type final struct{ error }

// await polls a condition until it holds.
func await(ctx context.Context, within time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		err := ok()
		var last final
		if err == nil || errors.As(err, &last) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-tick.C:
		}
	}
}
