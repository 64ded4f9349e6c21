//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
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
	maxCLI    = 12  // MB
	maxWarm   = 3.5 // times a bare Go process
	parallel  = 100 // cold calls at once
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
	bare, err := b.bareGo()
	if err != nil {
		return err
	}
	walls, err := b.time(cliCalls, program{argv: []string{filepath.Join(bin, "sega"), "--version"}}, bare)
	if err != nil {
		return err
	}
	b.add(result("cli.start", millis(median(walls[0])), "ms").against(bareGo, millis(median(walls[1]))),
		result("cli.start.p99", millis(quantile(walls[0], 0.99)), "ms").against(bareGo, millis(quantile(walls[1], 0.99))))
	return nil
}

// bareGo builds a Go program that does nothing.
func (b *bench) bareGo() (program, error) {
	source, bare := filepath.Join(b.dir, "bare.go"), filepath.Join(b.dir, "bare")
	if err := os.WriteFile(source, []byte(bareEmpty), 0o600); err != nil {
		return program{}, err
	}
	return program{argv: []string{bare}}, b.build(bare, source)
}

// credentialProcess is a warm hand-out by the agent, and one without it, for which the broker is asked.
func (b *bench) credentialProcess() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	argv := []string{filepath.Join(e.bin, "sega"), "credential-process", role}
	if err := b.warm("cli.credential_process.warm", maxWarm, program{argv: argv, env: env}); err != nil {
		return err
	}
	walls, err := b.time(cliCalls, program{argv: append(argv, "--no-agent"), env: env})
	if err != nil {
		return err
	}
	b.add(result("cli.credential_process.no_agent", millis(median(walls[0])), "ms"), result("cli.credential_process.no_agent.p99", millis(quantile(walls[0], 0.99)), "ms"))
	return nil
}

// status is what a prompt shows.
func (b *bench) status() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	return b.warm("cli.status.warm", 0, program{argv: []string{filepath.Join(e.bin, "sega"), "status", "--json"}, env: env})
}

// warm measures a program that the agent answers against a bare Go process and the AWS CLI's own cache.
// most is how many times the bare process it may take; 0: not judged.
func (b *bench) warm(name string, most float64, p program) error {
	bare, err := b.bareGo()
	if err != nil {
		return err
	}
	walls, err := b.time(cliCalls, p, bare)
	if err != nil {
		return err
	}
	took, least := millis(median(walls[0])), millis(median(walls[1]))
	p50 := result(name, took, "ms").against(bareGo, least)
	if most > 0 {
		p50 = p50.atMost(most * least)
	}
	aws := result(name+".aws", took, "ms").unmeasured(awsPeer)
	if _, err := os.Stat(awsPath); err == nil {
		peer, err := b.awsCLI(b.env)
		if err != nil {
			return err
		}
		walls, err := b.time(awsCalls, peer)
		if err != nil {
			return err
		}
		aws = aws.against(awsPeer, millis(median(walls[0])))
	}
	b.add(p50, result(name+".p99", millis(quantile(walls[0], 0.99)), "ms").against(bareGo, millis(quantile(walls[1], 0.99))), aws)
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

// singleFlight is how many times AWS is asked by as many cold calls at once, with the agent and without.
func (b *bench) singleFlight() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	for name, flags := range map[string][]string{"cli.singleflight": nil, "cli.singleflight.no_agent": {"--no-agent"}} {
		before, err := b.assumed(e, env)
		if err != nil {
			return err
		}
		// A reason of its own makes them cold: what was got for another one is not handed out.
		argv := append([]string{filepath.Join(e.bin, "sega"), "credential-process", role, "--reason", name}, flags...)
		answers, wall, err := b.atOnce(program{argv: argv, env: env})
		if err != nil {
			return err
		}
		after, err := b.assumed(e, env)
		if err != nil {
			return err
		}
		b.add(result(name, float64(after-before), "AssumeRole").atMost(1), result(name+".answers", float64(answers), "different").atMost(1),
			result(name+".wall", millis(wall), "ms"))
	}
	return nil
}

// assumed is how many credentials the broker has got for alice.
func (b *bench) assumed(e *environment, env []string) (int, error) {
	c := exec.CommandContext(b.ctx, filepath.Join(e.bin, "sega"), "audit", "query", "kind:aws.assume outcome:success", "--count-by", "kind", "--json")
	c.Env = env
	out, err := c.Output()
	if err != nil {
		return 0, err
	}
	var line struct{ Count int }
	if len(bytes.TrimSpace(out)) == 0 {
		return 0, nil
	}
	err = json.Unmarshal(out, &line)
	return line.Count, err
}

// atOnce runs a program as often as parallel says, all at the same time, and returns how many different
// things they print.
func (b *bench) atOnce(p program) (different int, wall time.Duration, err error) {
	var all errgroup.Group
	outs := make([]string, parallel)
	from := time.Now()
	for i := range outs {
		all.Go(func() error {
			c := exec.CommandContext(b.ctx, p.argv[0], p.argv[1:]...)
			c.Env = p.env
			out, err := c.Output()
			outs[i] = string(out)
			return err
		})
	}
	err = all.Wait()
	wall = time.Since(from)
	slices.Sort(outs)
	return len(slices.Compact(outs)), wall, err
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
