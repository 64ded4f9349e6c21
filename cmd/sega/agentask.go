package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/cmd/sega/endpoint"
)

// maxSocket is what the path of a Unix socket may have everywhere, in bytes (unix(7): 108 on Linux,
// 104 on macOS, the end included).
const maxSocket = 103

// startTime is how long an agent may take to answer at first.
const startTime = 5 * time.Second

// errNoAgent is for where no agent is wanted or can be.
var errNoAgent = errors.New("there is no agent here")

// socket is where the agent of this SEGA_HOME answers.
func (a *app) socket() (string, error) {
	dir, err := a.home()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "agent", "socket")
	if len(path) <= maxSocket {
		return path, nil
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("sega-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])), "socket"), nil
}

// askAgent asks the agent, which it starts where none is running. errNoAgent where the command is to
// go on without one; a problem is returned as an error.
func (a *app) askAgent(ctx context.Context, r agent.Request) (reply agent.Reply, err error) {
	err = a.withAgent(ctx, func(socket string) (*api.Problem, error) {
		reply, err = agent.Call(ctx, socket, r)
		return reply.Problem, err
	})
	return reply, err
}

// agentless reports whether no agent is wanted, or none can be.
func (a *app) agentless() bool {
	return !agent.Supported || a.noAgent || a.getenv("SEGA_NO_AGENT") != ""
}

// withAgent makes a call to the agent: again where none was running, or where it lacks the key.
func (a *app) withAgent(ctx context.Context, call func(socket string) (*api.Problem, error)) error {
	if a.agentless() {
		return errNoAgent
	}
	socket, err := a.socket()
	if err != nil {
		return err
	}
	problem, err := call(socket)
	if errors.Is(err, agent.ErrVersion) { // left by another version of sega
		if _, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpStop}); err != nil {
			return withKind(kindAgent, err)
		}
		err = agent.ErrNotRunning
	}
	if errors.Is(err, agent.ErrNotRunning) {
		if !a.mayHaveLogin() {
			return errNoAgent
		}
		if atomic.LoadInt32(&a.startless) == 1 {
			return errNoAgent
		}
		if err := a.startAgent(ctx, socket); err != nil {
			atomic.StoreInt32(&a.startless, 1)
			return fmt.Errorf("%w: %w", errNoAgent, err)
		}
		problem, err = call(socket)
	}
	if err == nil && problem != nil && problem.Kind == agent.KindNeedsKey {
		if err := a.lendKey(ctx, socket); err != nil {
			return err
		}
		problem, err = call(socket)
	}
	if err == nil && problem != nil && problem.Kind == agent.KindOther {
		return errNoAgent // the one that there is serves another broker
	}
	if err == nil && problem != nil && cutOff[problem.Kind] {
		if reply, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpStatus}); err == nil && reply.Status != nil && a.otherNetwork(reply.Status) {
			if atomic.CompareAndSwapInt32(&a.strayed, 0, 1) {
				fmt.Fprintln(a.err, "sega: the agent has another SEGA_CA_FILE or proxy than this shell and does not reach the broker: this goes without it; to start it anew: sega agent stop")
			}
			return errNoAgent
		}
	}
	if err == nil && problem != nil {
		return problem
	}
	return withKind(kindAgent, err)
}

// cutOff are the kinds of problems that an agent may have alone, by the settings it was started with.
var cutOff = map[api.Kind]bool{api.KindUnreachable: true, kindUntrusted: true, kindForeign: true, kindIDPUnreachable: true, kindConfig: true}

// network names the settings by which this process reaches the broker. An agent keeps those of whoever started it.
func (a *app) network() string {
	h := sha256.New()
	for _, name := range []string{"SEGA_CA_FILE", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		value := a.getenv(name)
		if whole, err := filepath.Abs(value); err == nil && value != "" && name == "SEGA_CA_FILE" {
			value = whole
		}
		fmt.Fprintf(h, "%s=%s\x00", name, value)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// otherNetwork reports whether an agent reaches the broker by other settings than ours.
func (a *app) otherNetwork(s *agent.Status) bool { return s.Network != "" && s.Network != a.network() }

// tellAgent is askAgent for an agent that runs; where none does there is nobody to be told.
func (a *app) tellAgent(ctx context.Context, op string) {
	socket, err := a.socket()
	if err != nil || !agent.Supported {
		return
	}
	reply, err := agent.Call(ctx, socket, agent.Request{Op: op})
	if err == nil && reply.Problem != nil {
		err = reply.Problem
	}
	if err != nil && !errors.Is(err, agent.ErrNotRunning) {
		fmt.Fprintf(a.err, "sega: the agent was not told: %s\n", escape(err.Error()))
	}
}

// mayHaveLogin reports whether an agent would find anything to hold.
func (a *app) mayHaveLogin() bool {
	_, err := a.pinned()
	return err == nil
}

// lendKey fetches the key of the stored secrets, for which a person may be asked, and gives it to the agent.
func (a *app) lendKey(ctx context.Context, socket string) error {
	store, err := a.secrets()
	if err != nil {
		return err
	}
	key, err := store.Key()
	if err != nil {
		return err
	}
	defer key.Wipe()
	reply, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpUnlock, Key: key})
	if err == nil && reply.Problem != nil {
		err = reply.Problem
	}
	return err
}

// startAgent starts an agent that outlives this process, once however many ask at the same time.
func (a *app) startAgent(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := agent.Private(filepath.Dir(socket)); err != nil {
		return err
	}
	turn := flock.New(socket+".start", flock.SetPermissions(0o600))
	if ok, err := turn.TryLockContext(ctx, 5*time.Millisecond); err != nil || !ok {
		return fmt.Errorf("another process is starting the agent: %w", err)
	}
	defer func() { _ = turn.Unlock() }()
	if _, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpStatus}); !errors.Is(err, agent.ErrNotRunning) {
		return err
	}
	return a.spawnAgent(ctx)
}

// spawnAgent has `sega agent --run` started in a session of its own and waits until it answers, or says why not.
//
// A process in between starts it and ends, so that it is nobody's child: what sega exec becomes would have a
// child that it has never started, and wait(2) for it for hours.
func (a *app) spawnAgent(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := a.home()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	c := exec.CommandContext(ctx, self, "agent", "--detach")
	c.Dir, c.ExtraFiles = "/", []*os.File{w}
	c.Env = agentEnv(a.env(), dir, a.getenv)
	runErr := c.Run()
	_ = w.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(r, 4096))
	switch {
	case strings.HasPrefix(string(said), readyWord):
		return nil
	case errors.Join(err, runErr) != nil:
		return fmt.Errorf("the agent does not get ready: %w", errors.Join(err, runErr))
	}
	return fmt.Errorf("the agent does not start: %s", strings.TrimSpace(string(said)))
}

// detachAgent starts the agent with the starter's pipe, and waits for nothing.
func (a *app) detachAgent() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, "agent", "--run")
	c.ExtraFiles, c.SysProcAttr = []*os.File{os.NewFile(readyFD, "starter")}, ownSession()
	return c.Start()
}

// agentEnv is our environment for a process that outlives us and works elsewhere: paths are whole, and
// nothing of AWS's or of one shell's is in it.
func agentEnv(env []string, home string, getenv func(string) string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "AWS_") || name == "SEGA_HOME" || name == "SEGA_CA_FILE" || name == "SEGA_ROLE" || name == "SEGA_SESSION" || name == "SEGA_BROKER" || name == processMarker || name == "PWD" || name == "OLDPWD" {
			continue
		}
		out = append(out, kv)
	}
	out = append(out, "SEGA_HOME="+home)
	if ca := getenv("SEGA_CA_FILE"); ca != "" {
		if whole, err := filepath.Abs(ca); err == nil {
			ca = whole
		}
		out = append(out, "SEGA_CA_FILE="+ca)
	}
	return out
}

// fromAgent gets credentials from the agent; errNoAgent where the broker is to be asked from here.
func (a *app) fromAgent(ctx context.Context, r api.CredentialsRequest) (granted, error) {
	g, _, err := a.grantFromAgent(ctx, agent.OpCredentials, r)
	return g, err
}

// endpointFromAgent gets credentials, and an endpoint that gives further ones for as long as this process
// lives, or what it becomes.
func (a *app) endpointFromAgent(ctx context.Context, r api.CredentialsRequest) (granted, *agent.Endpoint, error) {
	return a.grantFromAgent(ctx, agent.OpEndpoint, r)
}

func (a *app) grantFromAgent(ctx context.Context, op string, r api.CredentialsRequest) (granted, *agent.Endpoint, error) {
	q, err := a.question(op, &r)
	if err != nil {
		return granted{}, nil, err
	}
	q.Process = os.Getpid()
	reply, err := a.askAgent(ctx, q)
	if err != nil {
		return granted{}, nil, err
	}
	if reply.Granted == nil || (op == agent.OpEndpoint) != (reply.Endpoint != nil) {
		return granted{}, nil, withKind(kindAgent, errors.New("the agent's answer is not what was asked for"))
	}
	a.tell(reply.Granted.Notices)
	return granted{reply.Granted.Credentials, reply.Granted.LoginID, reply.Granted.LoginEnds, reply.Granted.Person}, reply.Endpoint, nil
}

// processForm returns credentials as credential_process prints them.
func (a *app) processForm(ctx context.Context, r api.CredentialsRequest) (form []byte, err error) {
	q, err := a.question(agent.OpProcess, &r)
	if err != nil {
		return nil, err
	}
	err = a.withAgent(ctx, func(socket string) (*api.Problem, error) {
		var reply agent.Reply
		form, reply, err = agent.Process(ctx, socket, q)
		return reply.Problem, err
	})
	if !errors.Is(err, errNoAgent) {
		return form, err
	}
	g, err := a.obtain(ctx, r)
	if err != nil {
		return nil, err
	}
	return endpoint.ProcessForm(g.Credentials)
}

// question is about the login at the broker that SEGA_BROKER names, if it names one.
func (a *app) question(op string, r *api.CredentialsRequest) (agent.Request, error) {
	q := agent.Request{Op: op, Credentials: r}
	if a.getenv("SEGA_BROKER") == "" {
		return q, nil
	}
	var err error
	q.Broker, err = a.origin("")
	return q, err
}

// tell writes what the broker has to say beside an answer.
func (a *app) tell(notices []string) {
	for _, n := range notices {
		fmt.Fprintf(a.err, "sega: %s\n", escape(n))
	}
}
