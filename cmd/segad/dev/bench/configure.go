//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	configLines  = 7000 // of the ~/.aws/config with which granted took 10 to 20 s (common-fate/granted#172)
	maxConfigure = 300  // ms
	configCalls  = 20   // of each of two commands
)

// configure is a run that changes a large ~/.aws/config, and a hand-out of credentials beside it, which
// has no reason to read the file.
func (b *bench) configure() error {
	e, env, err := b.alice()
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "aws-config")
	if err := os.WriteFile(path, []byte(largeConfig()), 0o600); err != nil {
		return err
	}
	sega := filepath.Join(e.bin, "sega")
	beside := append(env[:len(env):len(env)], "AWS_CONFIG_FILE="+path, "AWS_SHARED_CREDENTIALS_FILE="+path)
	// Each of the two removes what the other has made, so that every run writes.
	walls, err := b.time(configCalls,
		program{argv: []string{sega, "configure", "--prune", "--prefix", "a-"}, env: beside},
		program{argv: []string{sega, "configure", "--prune", "--prefix", "b-"}, env: beside})
	if err != nil {
		return err
	}
	runs := append(walls[0], walls[1]...)
	b.add(result("cli.configure.7000", millis(median(runs)), "ms").atMost(maxConfigure),
		result("cli.configure.7000.p99", millis(quantile(runs, 0.99)), "ms").atMost(maxConfigure))
	hand := []string{sega, "credential-process", role}
	walls, err = b.time(cliCalls, program{argv: hand, env: beside}, program{argv: hand, env: env})
	if err != nil {
		return err
	}
	b.add(result("cli.configure.7000.credential_process", millis(median(walls[0])), "ms").against("without the file", millis(median(walls[1]))))
	return nil
}

// largeConfig is a file of sections of seven lines.
func largeConfig() string {
	var out strings.Builder
	for i := range configLines / 7 {
		fmt.Fprintf(&out, "[profile p%d]\nrole_arn = arn:aws:iam::111111111111:role/p%d\nsource_profile = base\nregion = eu-west-1\noutput = json\n# a comment\n\n", i, i)
	}
	return out.String()
}
