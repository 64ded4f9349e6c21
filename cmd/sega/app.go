package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/term"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/client"
	"sega/cmd/sega/inherited"
	"sega/keychain"
	"sega/keychain/atomicfile"
)

// app is what every command works with.
type app struct {
	stdin  *os.File
	out    io.Writer // data
	err    io.Writer // talk
	getenv func(string) string
	env    func() []string
	now    func() time.Time

	store *keychain.Store // opened on first use

	noAgent bool // --no-agent
	mute    bool // nobody is to be asked for a passphrase, and checkpoints are written when there is time
	json    bool // --json

	strayed int32 // 1 when it was told that the agent has other settings

	startless int32 // 1 when an agent could not be started: it is not tried again for each question of a command
}

// system is the app of the real process.
func system() *app {
	return &app{stdin: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, env: inherited.Environ, now: time.Now}
}

// home is sega's own folder.
func (a *app) home() (string, error) {
	if dir := a.getenv("SEGA_HOME"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", withKind(kindConfig, withHint(err, "set SEGA_HOME to a folder of your own"))
	}
	return filepath.Join(dir, "sega"), nil
}

// path returns a path in sega's folder, which it makes.
func (a *app) path(elem ...string) (string, error) {
	dir, err := a.home()
	if err != nil {
		return "", err
	}
	full := filepath.Join(append([]string{dir}, elem...)...)
	return full, os.MkdirAll(filepath.Dir(full), 0o700)
}

// secrets opens the laptop's secret store.
func (a *app) secrets() (*keychain.Store, error) {
	if a.store != nil {
		return a.store, nil
	}
	c, err := a.secretsConfig()
	if err != nil {
		return nil, err
	}
	a.store, err = keychain.Open(c)
	return a.store, withKind(kindConfig, err)
}

// secretsConfig says where the secrets are: in a folder of their own, because SEGA_HOME may be one
// that others can look into.
func (a *app) secretsConfig() (keychain.Config, error) {
	path, err := a.path("secrets", "x")
	c := keychain.Config{Dir: filepath.Dir(path), Backend: a.getenv("SEGA_KEYRING_BACKEND"), Passphrase: a.passphrase, Now: a.now}
	if a.mute {
		c.Passphrase = nil
	}
	return c, err
}

// ask puts a question on the terminal and reads a line; without a terminal it is a usage error.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	in, out, err := openTerminal()
	if err != nil || !term.IsTerminal(int(in.Fd())) {
		return "", usagef("this asks for confirmation and there is no terminal; repeat with --yes")
	}
	defer func() { _ = errors.Join(in.Close(), out.Close()) }() // one file on most systems
	fmt.Fprint(out, prompt)
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() { // ends with the process where the person never answers
		line, err := bufio.NewReader(in).ReadString('\n')
		got <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errCancelled
	case v := <-got:
		return strings.TrimSpace(v.line), v.err
	}
}

// pinnedFile is changed by one process at a time, whose turn it is by this name.
const pinnedFile = "broker.json"

// pinned is what is remembered of a broker, in the clear: nothing of it is secret.
type pinned struct {
	Configuration api.Configuration `json:"configuration"`
	Updated       time.Time         `json:"updated"`
}

// origin finds the broker: argument, SEGA_BROKER, or the last that was logged in to.
func (a *app) origin(arg string) (string, error) {
	if arg == "" {
		arg = a.getenv("SEGA_BROKER")
	}
	if arg == "" {
		p, err := a.pinned()
		if errors.Is(err, fs.ErrNotExist) {
			return "", withKind(kindConfig, withHint(errors.New("no broker is known yet"), "run: sega login sega.YOUR-COMPANY.example"))
		}
		return p.Configuration.Origin, err
	}
	if !strings.Contains(arg, "://") {
		arg = "https://" + arg
	}
	u, err := url.Parse(arg)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return "", usagef("a broker is named like sega.corp.example or https://sega.corp.example:8443")
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// pinned reads what is remembered of the broker; fs.ErrNotExist where there was no login.
func (a *app) pinned() (pinned, error) {
	var p pinned
	dir, err := a.home()
	if err != nil {
		return p, err
	}
	path := filepath.Join(dir, pinnedFile) // whose folder is not made by looking
	data, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, withKind(kindConfig, withHint(fmt.Errorf("%s is damaged", path), "remove it and run: sega login"))
	}
	return p, nil
}

// writeFile replaces a file of ours by rename.
func (a *app) writeFile(name string, data []byte, mode os.FileMode) error {
	path, err := a.path(name)
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, data, mode)
}

// roots is the trust in the broker's certificate: the system's, or SEGA_CA_FILE alone.
func (a *app) roots() (*x509.CertPool, error) {
	path := a.getenv("SEGA_CA_FILE")
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, kinded{withHint(fmt.Errorf("SEGA_CA_FILE: %w", err), "name a PEM file of the CA that has issued the broker's certificate, or unset it"), kindConfig}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, withKind(kindConfig, withHint(fmt.Errorf("SEGA_CA_FILE: %s holds no certificate", path), "name a PEM file of the CA that has issued the broker's certificate, or unset it"))
	}
	return pool, nil
}

func userAgent() string { return "sega/" + version + " " + runtime.GOOS }

// client makes a client of a broker. With a log key every answer's checkpoint is held against
// what this machine remembers (R9), by the witness that comes with it.
func (a *app) client(ctx context.Context, logKey string, cfg client.Config) (*client.Client, *audit.Witness, error) {
	var err error
	if cfg.RootCAs, err = a.roots(); err != nil {
		return nil, nil, err
	}
	cfg.UserAgent = userAgent()
	c, err := client.New(cfg)
	if err != nil || logKey == "" {
		return c, nil, err
	}
	w, err := a.newWitness(cfg.Origin, logKey, c)
	if err != nil {
		return nil, nil, err
	}
	return c.Witnessed(func(msg []byte) error { return w.Observe(ctx, msg) }), w, nil
}

// newWitness remembers the log's checkpoints in a file for each broker.
func (a *app) newWitness(origin, logKey string, prover *client.Client) (*audit.Witness, error) {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, withKind(kindConfig, withHint(fmt.Errorf("the pinned key of the broker's log: %w", err), "run: sega login"))
	}
	name := checkpointFile(origin)
	path, err := a.path(name)
	if err != nil {
		return nil, err
	}
	latest, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	remember := func(msg []byte) error {
		if now, err := os.ReadFile(path); err == nil && newer(now, msg, verifier) {
			return nil // another process has seen more
		}
		return a.writeFile(name, msg, 0o600)
	}
	if a.mute {
		remember = a.unhurried(remember)
	}
	return audit.NewWitness(audit.WitnessConfig{Verifier: verifier, Latest: latest, Prove: prove(prover), Remember: remember})
}

// newer reports whether a checkpoint is of more events than another.
func newer(a, b []byte, v note.Verifier) bool {
	x, xErr := audit.OpenCheckpoint(a, v)
	y, yErr := audit.OpenCheckpoint(b, v)
	return xErr == nil && yErr == nil && x.Tree.N > y.Tree.N
}

// rememberEvery is how often a process that lives long writes a checkpoint to disk.
const rememberEvery = time.Minute

// unhurried writes at most once in rememberEvery. What comes in between the witness holds in memory; a
// disk that is full is no reason to answer nobody.
func (a *app) unhurried(write func([]byte) error) func([]byte) error {
	var last time.Time
	return func(msg []byte) error {
		if time.Since(last) < rememberEvery {
			return nil
		}
		last = time.Now()
		if err := write(msg); err != nil {
			fmt.Fprintf(a.err, "sega: the log's checkpoint is not kept: %s\n", escape(err.Error()))
		}
		return nil
	}
}

// prove asks the broker for a proof. That it does not know a size is its own word, and evidence.
func prove(c *client.Client) func(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
	return func(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
		proof, err := c.Proof(ctx, from, to)
		if api.IsKind(err, api.KindInvalid) {
			err = fmt.Errorf("%w: %w", audit.ErrNoSuchSize, err)
		}
		return proof, err
	}
}

// checkpointFile is named after the broker, in letters that every file system takes.
func checkpointFile(origin string) string {
	return "checkpoint-" + strings.NewReplacer("https://", "", ":", "_", "/", "_", "[", "", "]", "").Replace(origin)
}
