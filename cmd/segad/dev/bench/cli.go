//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	warmUps   = 3   // calls that are not counted
	cliCalls  = 100 // of each program
	awsCalls  = 7   // of the AWS CLI, which takes half a second
	awsPath   = "/usr/bin/aws"
	bareGo    = "bare Go process"
	awsPeer   = "aws configure export-credentials (its own cache)"
	role      = "dev-admin"
	megabyte  = 1e6
	maxCLI    = 12 // MB
	truePath  = "/bin/true"
	bareEmpty = "package main\n\nfunc main() {}\n"
)

func (b *bench) size() error {
	bin, err := b.binaries()
	if err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(bin, "sega"))
	if err != nil {
		return err
	}
	b.add(result("cli.size", float64(info.Size())/megabyte, "MB").atMost(maxCLI))
	return nil
}

// start is the least that any command costs.
func (b *bench) start() error {
	bin, err := b.binaries()
	if err != nil {
		return err
	}
	source, bare := filepath.Join(b.dir, "bare.go"), filepath.Join(b.dir, "bare")
	if err := os.WriteFile(source, []byte(bareEmpty), 0o600); err != nil {
		return err
	}
	if err := b.build(bare, source); err != nil {
		return err
	}
	walls, err := b.time(cliCalls, program{argv: []string{filepath.Join(bin, "sega"), "--version"}}, program{argv: []string{bare}})
	if err != nil {
		return err
	}
	b.add(result("cli.start", millis(median(walls[0])), "ms").against(bareGo, millis(median(walls[1]))),
		result("cli.start.p99", millis(quantile(walls[0], 0.99)), "ms").against(bareGo, millis(quantile(walls[1], 0.99))))
	return nil
}

// credentialProcess is a hand-out of cached credentials without an agent: the broker is asked.
func (b *bench) credentialProcess() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	walls, err := b.time(cliCalls, program{argv: []string{filepath.Join(e.bin, "sega"), "credential-process", role}, env: env})
	if err != nil {
		return err
	}
	p50 := result("cli.credential_process.cached", millis(median(walls[0])), "ms").unmeasured(awsPeer)
	p99 := result("cli.credential_process.cached.p99", millis(quantile(walls[0], 0.99)), "ms")
	if _, err := os.Stat(awsPath); err == nil {
		peer, err := b.awsCLI(e)
		if err != nil {
			return err
		}
		walls, err := b.time(awsCalls, peer)
		if err != nil {
			return err
		}
		p50 = p50.against(awsPeer, millis(median(walls[0])))
	}
	b.add(p50, p99)
	return nil
}

// awsCLI prepares a profile whose role the AWS CLI itself assumes at the double, and then keeps.
func (b *bench) awsCLI(e *environment) (program, error) {
	home := filepath.Join(b.dir, "aws")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return program{}, err
	}
	keys, err := os.ReadFile(filepath.Join(e.data, "aws", "credentials"))
	if err != nil {
		return program{}, err
	}
	config := fmt.Sprintf("[profile peer]\nrole_arn = arn:aws:iam::111111111111:role/%s\nsource_profile = default\n", role)
	for name, data := range map[string][]byte{"config": []byte(config), "credentials": keys} {
		if err := os.WriteFile(filepath.Join(home, name), data, 0o600); err != nil {
			return program{}, err
		}
	}
	env := append(e.environ(home), "HOME="+home, "AWS_CONFIG_FILE="+filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"))
	return program{argv: []string{awsPath, "configure", "export-credentials", "--profile", "peer"}, env: env}, nil
}

// exec is what it costs to put a role's credentials before a command.
func (b *bench) exec() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	walls, err := b.time(cliCalls, program{argv: []string{filepath.Join(e.bin, "sega"), "exec", role, "--", truePath}, env: env}, program{argv: []string{truePath}, env: env})
	if err != nil {
		return err
	}
	with, without := millis(median(walls[0])), millis(median(walls[1]))
	b.add(result("cli.exec", with, "ms").against("true", without),
		result("cli.exec.p99", millis(quantile(walls[0], 0.99)), "ms").against("true", millis(quantile(walls[1], 0.99))),
		result("cli.exec.overhead", with-without, "ms"))
	return nil
}

// alice logs alice in by the real command and returns her environment.
func (b *bench) alice() (*environment, []string, error) {
	e, err := b.environment()
	if err != nil {
		return nil, nil, err
	}
	home := filepath.Join(b.dir, "alice")
	env := e.environ(home)
	if _, err := os.Stat(home); err == nil {
		return e, env, nil
	}
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, nil, err
	}
	_, err = b.once(program{argv: []string{filepath.Join(e.bin, "segad"), "dev", "login", "alice@example.com"}, env: env})
	return e, env, err
}

// program is a command to be timed.
type program struct {
	argv, env []string
}

// time runs programs n times in turn, so that what else the machine does meets all alike, and returns
// the whole process's time of each.
func (b *bench) time(n int, programs ...program) ([][]time.Duration, error) {
	walls := make([][]time.Duration, len(programs))
	for i := range warmUps + n {
		for j, p := range programs {
			wall, err := b.once(p)
			if err != nil {
				return nil, err
			}
			if i >= warmUps {
				walls[j] = append(walls[j], wall)
			}
		}
	}
	return walls, nil
}

// once runs a program to its end, which must be a good one.
func (b *bench) once(p program) (time.Duration, error) {
	c := exec.CommandContext(b.ctx, p.argv[0], p.argv[1:]...)
	var errs bytes.Buffer
	c.Env, c.Stderr = p.env, &errs
	from := time.Now()
	err := c.Run()
	wall := time.Since(from)
	if err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", p.argv, err, errs.Bytes())
	}
	return wall, nil
}
