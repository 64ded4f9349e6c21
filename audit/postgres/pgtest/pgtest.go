package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/freeport"

	"github.com/jackc/pgx/v5"
)

// ErrMissing means that the system has no PostgreSQL server.
var ErrMissing = errors.New("no PostgreSQL server in /usr/lib/postgresql/*/bin nor in PATH: run scripts/deps")

// Limits of what the server may take.
const (
	startTime = 60 * time.Second // crash recovery included
	stopTime  = 30 * time.Second
)

// superuser is the role that initdb makes.
const superuser = "sega"

// Server is a PostgreSQL server of its own.
type Server struct {
	Dir  string // holds data, socket and log
	Port int    // of 127.0.0.1, and of the Unix socket in Dir

	bin      string
	password string
	account  *account // whom the server runs as; nil: whoever runs this process
	settings []string
	made     bool // Dir was made by Run

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Binaries returns the folder of initdb and postgres, or ErrMissing.
func Binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	var best string
	version := 0
	for _, f := range found {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(f)))); err == nil && v > version {
			best, version = filepath.Dir(f), v
		}
	}
	if best != "" {
		return best, nil
	}
	if f, err := exec.LookPath("postgres"); err == nil {
		if f, err = filepath.EvalSymlinks(f); err == nil {
			return filepath.Dir(f), nil
		}
	}
	return "", ErrMissing
}

// Start runs a server until the test ends. Without PostgreSQL the test is skipped, in CI it fails.
// Settings are as Run takes them.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := Run("", settings...)
	if errors.Is(err, ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("server:\n%s", s.LogTail())
		}
	})
	return s
}

// Run makes a database cluster in dir, or takes the one that Run made there before, and starts a
// server on it. An empty dir is a new one, which Close removes. Settings are name=value; without
// any the server is as durable as PostgreSQL is by default. Unix alone:
// elsewhere it is ErrMissing. A root process runs the server as postgres or nobody, as it refuses root.
func Run(dir string, settings ...string) (*Server, error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, bin: bin, settings: settings}
	if s.account, err = unprivileged(); err != nil {
		return nil, err
	}
	if dir == "" {
		// The path of a Unix socket has 107 bytes at most: a test's own folder may be too long.
		if s.Dir, err = os.MkdirTemp(os.TempDir(), "sega-pg-"); err != nil {
			return nil, err
		}
		s.made = true
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	if err := s.Restart(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// unprivileged returns an account for the server where this process is root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither an account postgres nor nobody")
}

// account is a user of the system.
type account struct{ uid, gid uint32 }

// prepare makes folder, port, password and cluster.
func (s *Server) prepare() error {
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(s.Dir, 0o711); err != nil {
		return err
	}
	if err := s.own(s.Dir); err != nil {
		return err
	}
	var err error
	if s.Port, err = freeport.Pick(); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "password")
	if b, err := os.ReadFile(file); err == nil {
		s.password = string(b)
		return nil
	}
	s.password = rand.Text()
	if err := os.WriteFile(file, []byte(s.password), 0o600); err != nil {
		return err
	}
	if err := s.own(file); err != nil {
		return err
	}
	c := s.command("initdb", "--pgdata", filepath.Join(s.Dir, "data"), "--username", superuser, "--pwfile", file,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if out, err := c.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.Remove(file))
	}
	return nil
}

func (s *Server) own(path string) error {
	if s.account == nil {
		return nil
	}
	return os.Chown(path, int(s.account.uid), int(s.account.gid))
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.Dir
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	setProcess(c, s.account)
	return c
}

// Restart starts the server, after stopping it where it runs, and waits until it takes connections.
// Settings replace those of Run where there are any.
func (s *Server) Restart(settings ...string) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if len(settings) > 0 {
		s.settings = settings
	}
	args := []string{"-D", filepath.Join(s.Dir, "data")}
	for _, kv := range append([]string{"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(s.Port), "unix_socket_directories=" + s.Dir,
		"max_connections=100", "log_min_messages=warning"}, s.settings...) {
		args = append(args, "-c", kv)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := s.command("postgres", args...)
	c.Stdout, c.Stderr = log, log
	done := make(chan struct{})
	if err := start(c, done); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.mu.Lock()
	s.cmd, s.done = c, done
	s.mu.Unlock()
	return s.ready(done)
}

// ready waits until the server answers.
func (s *Server) ready(done chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-done:
			return fmt.Errorf("postgres ended\n%s", s.LogTail())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("postgres does not get ready: %w\n%s", err, s.LogTail()), s.Kill())
		}
	}
}

// running returns the process and what is closed at its end; nil where it has ended.
func (s *Server) running() (*exec.Cmd, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil, nil
	}
	select {
	case <-s.done:
		return nil, nil
	default:
		return s.cmd, s.done
	}
}

// Stop shuts the server down, ending its connections. It may run again with Restart.
func (s *Server) Stop() error { return s.stop(os.Interrupt) } // "fast" shutdown

func (s *Server) stop(how os.Signal) error {
	c, done := s.running()
	if c == nil {
		return nil
	}
	if err := c.Process.Signal(how); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-time.After(stopTime):
		return errors.Join(errors.New("postgres does not stop"), s.Kill())
	}
}

// Kill ends the server and all its processes by SIGKILL, as a crash of the machine would, and waits
// until none is left.
func (s *Server) Kill() error {
	c, done := s.running()
	if c == nil {
		return nil
	}
	if err := killAll(c.Process.Pid, stopTime); err != nil {
		return err
	}
	<-done
	return nil
}

// Close stops the server and removes the folder if Run made it: then without writing down what is
// removed at once.
func (s *Server) Close() error {
	if s.made {
		return errors.Join(s.stop(syscall.SIGQUIT), s.remove()) // "immediate" shutdown
	}
	return s.Stop()
}

func (s *Server) remove() error {
	if !s.made {
		return nil
	}
	return os.RemoveAll(s.Dir)
}

// URL returns the address of a database on the Unix socket, for the superuser, with the password in
// it. More parameters of the connection are added as name=value.
func (s *Server) URL(database string, params ...string) string {
	return s.url(database, append([]string{"host=" + s.Dir, "port=" + strconv.Itoa(s.Port)}, params...))
}

// TCP is URL by 127.0.0.1.
func (s *Server) TCP(database string, params ...string) string {
	return s.url(database, append([]string{"host=127.0.0.1", "port=" + strconv.Itoa(s.Port), "sslmode=disable"}, params...))
}

func (s *Server) url(database string, params []string) string {
	q := url.Values{}
	for _, kv := range params {
		name, value, _ := strings.Cut(kv, "=")
		q.Set(name, value)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, s.password), Path: "/" + database, RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20")} // libpq reads + as it is
	return u.String()
}

// NewDatabase makes an empty database of a new name and returns the name.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "db_" + rand.Text()
	if err := s.Exec(t.Context(), "postgres", `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return name
}

// Exec runs statements in a database as the superuser.
func (s *Server) Exec(ctx context.Context, database string, statements ...string) error {
	c, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, text := range statements {
		if _, err := c.Exec(ctx, text); err != nil {
			return fmt.Errorf("%.60s: %w", text, err)
		}
	}
	return nil
}

// LogTail returns the end of the server's log.
func (s *Server) LogTail() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(b[max(0, len(b)-8000):])
}

// warmSegments are as many WAL segments (16 MiB each) as a benchmark fills.
const warmSegments = 40

// Warm makes WAL segments that the server can use again, as one that has run for a while has them: whoever
// needs the first ones of a new server waits until 16 MiB are written with zeros. Run it with min_wal_size=1GB.
func (s *Server) Warm(ctx context.Context) error {
	for range warmSegments {
		if err := s.Exec(ctx, "postgres", `SELECT pg_logical_emit_message(false, 'warm', 'x')`, `SELECT pg_switch_wal()`); err != nil {
			return err
		}
	}
	return s.Exec(ctx, "postgres", `CHECKPOINT`)
}
