package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"sega/broker/api"
	"sega/cmd/sega/endpoint"
	"sega/keychain/secret"
)

// DefaultIdle is how long an agent waits for a question before it stops.
const DefaultIdle = 2 * time.Hour

// maxCalls bounds the connections that are answered at once; further ones wait.
const maxCalls = 256

// restEvery is how often an agent looks whether it is still wanted.
const restEvery = 5 * time.Second

// takeTime is how long a new agent waits for one that is about to end; takePoll is between two looks.
const takeTime, takePoll = 3 * time.Second, 10 * time.Millisecond

// acceptPause is between a failure to take a connection and the next attempt.
const acceptPause = time.Second

// readTime is how long a client may take to say what it wants.
const readTime = 5 * time.Second

// Config is what an agent is made of.
type Config struct {
	Socket  string // in a folder of its own, which is made where it is not there
	Version string // of sega
	Network string // names by what settings it reaches the broker; of Status
	Idle    time.Duration
	Logger  *slog.Logger

	// Open opens the stored session, for as long as ctx lives. Its error is told to whoever asks; a *api.Problem is told as it is.
	Open func(ctx context.Context) (Login, error)
	// Unlock makes the stored secrets readable again, with a key where a person was asked for it; Lock forgets the key.
	Unlock func(key secret.Secret) error
	Lock   func()

	// Problem is an error as it is told to whoever asked; nil: api.AsProblem.
	Problem func(error) *api.Problem

	read func() reading // nil: the laptop's clock
}

// ErrRunning is for a socket that another agent has.
var ErrRunning = errors.New("agent: another one is running")

// Server is an agent.
type Server struct {
	cfg     Config
	started time.Time
	ctx     context.Context // of the whole agent
	stop    context.CancelFunc
	shut    func() // closes the sockets
	busy    sync.WaitGroup

	opening sync.Mutex // held while a session is opened, so that it is opened once

	mu      sync.Mutex
	life    *life // nil: nobody is logged in, or it was not looked yet
	locked  bool
	era     int       // counts what has ended a login here: one that was opened before is not taken
	touched time.Time // by the monotonic clock

	children children
}

// Run is an agent from its start to its end: ctx's, OpStop, or idleness. ready is called when the
// socket answers. ErrRunning where there is one already.
func Run(ctx context.Context, cfg Config, ready func()) error {
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.read == nil {
		cfg.read = laptop()
	}
	if cfg.Problem == nil {
		cfg.Problem = api.AsProblem
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l, release, err := listen(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	defer release()
	keys, err := listenAlone(SSHSocket(cfg.Socket))
	if err != nil {
		return err
	}
	s := &Server{cfg: cfg, started: time.Now(), ctx: ctx, stop: stop, touched: time.Now()}
	s.shut = func() { _, _ = l.Close(), keys.Close() }
	s.children.source, s.children.serve = source{s}, s.busy.Go
	defer s.close()
	unlisten := context.AfterFunc(ctx, s.shut)
	defer unlisten()
	s.busy.Go(func() { s.rest(ctx) })
	s.busy.Go(func() { _ = s.accept(ctx, keys, s.serveSSH) })
	ready()
	err = s.accept(ctx, l, s.answer)
	stop()
	return err
}

// accept answers whoever comes until ctx ends, maxCalls at once.
func (s *Server) accept(ctx context.Context, l *net.UnixListener, answer func(context.Context, *net.UnixConn)) error {
	calls := make(chan struct{}, maxCalls)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// As where this process or the machine has no file descriptors left, for a while.
			s.cfg.Logger.Warn("nobody can be let in", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case calls <- struct{}{}:
		case <-ctx.Done():
			return conn.Close()
		}
		s.busy.Go(func() {
			defer func() { <-calls }()
			answer(ctx, conn)
		})
	}
}

// close ends the login and waits for everybody who is being answered.
func (s *Server) close() {
	s.mu.Lock()
	l := s.life
	s.mu.Unlock()
	if l != nil {
		l.stop(stopping())
	}
	s.busy.Wait()
}

// answer takes one question of this user's; nobody else is told anything.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	uid, pid, err := peer(conn)
	if err != nil || uid != os.Getuid() {
		s.cfg.Logger.Warn("somebody else asked", "uid", uid, "pid", pid, "error", err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(readTime))
	var r Request
	line, err := receive(conn)
	if err != nil || decode(line, &r) != nil {
		return
	}
	s.touch()
	reply := s.do(ctx, r)
	reply.V = Version
	_ = conn.SetWriteDeadline(time.Now().Add(readTime))
	if err := respond(conn, r.Op, reply); err != nil {
		s.cfg.Logger.Info("an answer was not taken", "op", r.Op, "pid", pid, "error", err)
	}
	if r.Op == OpStop {
		s.stop()
	}
}

// respond writes a reply, in the form that was asked for.
func respond(conn *net.UnixConn, op string, reply Reply) error {
	if op != OpProcess || reply.Granted == nil {
		return send(conn, reply)
	}
	form, err := endpoint.ProcessForm(reply.Granted.Credentials)
	if err == nil {
		_, err = conn.Write(form)
	}
	return err
}

func (s *Server) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = time.Now()
}

// do carries out one request.
func (s *Server) do(ctx context.Context, r Request) Reply {
	if r.V != Version && r.Op != OpStop { // which is how another version gets rid of this one
		return s.failed(api.Errorf(api.KindInvalid, "this agent is of another version of sega").WithHint("run: sega agent stop"))
	}
	switch r.Op {
	case OpStatus:
		return s.status()
	case OpSession:
		if _, err := s.forBroker(ctx, r.Broker); err != nil {
			return s.failed(err)
		}
		return s.status()
	case OpCredentials, OpProcess, OpEndpoint:
		return s.credentials(ctx, r)
	case OpSSH:
		return s.ensureSSH(ctx, r)
	case OpReload:
		s.leave(api.Errorf(api.KindUnauthenticated, "there is another login now").WithHint("run the command again"), false)
		return s.status()
	case OpForget:
		s.leave(api.Errorf(api.KindUnauthenticated, "you are logged out").WithHint("run: sega login"), false)
		return s.status()
	case OpLock:
		s.leave(lockedProblem(), true)
		s.cfg.Lock()
		return s.status()
	case OpUnlock:
		return s.unlock(r.Key)
	case OpStop:
		s.shut() // whoever comes now finds none running
		s.leave(stopping(), false)
		return Reply{}
	}
	return s.failed(api.Errorf(api.KindInvalid, "this agent does not know how to %q", r.Op).WithHint("run: sega agent stop"))
}

func (s *Server) failed(err error) Reply { return Reply{Problem: s.problem(err)} }

// problem is an error as it is told to whoever asked.
func (s *Server) problem(err error) *api.Problem {
	if errors.Is(err, context.Canceled) { // the agent's own end does that
		return stopping()
	}
	return s.cfg.Problem(err)
}

func stopping() *api.Problem {
	return api.Errorf(api.KindUnavailable, "the agent is stopping").WithHint("run the command again")
}

func lockedProblem() *api.Problem {
	return api.Errorf(KindLocked, "the agent is locked").WithHint("run: sega agent unlock")
}

// leave ends the login that is held, if any.
func (s *Server) leave(why *api.Problem, locked bool) {
	s.mu.Lock()
	l := s.life
	s.life, s.locked = nil, locked
	s.era++
	s.mu.Unlock()
	if l != nil {
		l.stop(why)
	}
}

func (s *Server) unlock(sent secret.Secret) Reply {
	key, err := keyOfWire(sent)
	if err != nil {
		return s.failed(err)
	}
	defer key.Wipe()
	if err := s.cfg.Unlock(key); err != nil {
		return s.failed(err)
	}
	s.mu.Lock()
	s.locked = false
	s.mu.Unlock()
	return s.status()
}

// current returns the login that is held, or opens the stored one, as up to date as the broker lets it be.
func (s *Server) current(ctx context.Context) (*life, error) {
	l, err := s.find(ctx)
	if err == nil {
		l.hear(ctx)
	}
	return l, err
}

// find returns the login that is held, or opens the stored one. One that has ended is looked for
// anew, for there may have been another login; where there was none it says why it ended. It is opened for the
// agent's own time: whoever asks first, like a child over HTTP, is soon gone.
func (s *Server) find(ctx context.Context) (*life, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	old, locked, era := s.life, s.locked, s.era
	s.mu.Unlock()
	if locked {
		return nil, lockedProblem()
	}
	if old != nil && old.over() == nil {
		return old, nil
	}
	login, err := s.cfg.Open(s.ctx)
	if old != nil && (err != nil || login.Session().LoginID == old.login.Session().LoginID) {
		if err == nil {
			login.Close()
		}
		return nil, old.over()
	}
	if err != nil {
		return nil, err
	}
	s.children.are(login.Session().Person)
	l := begin(login, s.cfg.read, s.cfg.Logger)
	l.ready(ctx)
	if p := s.adopt(l, era); p != nil {
		l.stop(p)
		return nil, p
	}
	return l, nil
}

// adopt takes a login that was opened in an era; not where that has ended meanwhile.
func (s *Server) adopt(l *life, era int) *api.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.locked:
		s.cfg.Lock() // the key may have been fetched after it was forgotten
		return lockedProblem()
	case s.ctx.Err() != nil:
		return stopping()
	case s.era != era:
		return api.Errorf(api.KindUnavailable, "the login has changed meanwhile").WithHint("run the command again")
	}
	s.life = l
	return nil
}

func (s *Server) credentials(ctx context.Context, r Request) Reply {
	if r.Credentials == nil {
		return s.failed(api.Errorf(api.KindInvalid, "credentials of which role?"))
	}
	l, err := s.forBroker(ctx, r.Broker)
	if err != nil {
		return s.failed(err)
	}
	c, err := l.wallet.get(ctx, *r.Credentials)
	if err != nil {
		return s.failed(err)
	}
	session := l.login.Session()
	reply := Reply{Granted: &Granted{Credentials: c, LoginID: session.LoginID, LoginEnds: session.NotAfter, Person: session.Person}}
	if r.Op == OpEndpoint {
		if reply.Endpoint, err = s.children.add(s.ctx, session.Person, r.Process, *r.Credentials); err != nil {
			return s.failed(err)
		}
	}
	return reply
}

// source is the agent as its children's endpoint asks it.
type source struct{ s *Server }

func (v source) Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	v.s.touch()
	l, err := v.s.current(ctx)
	if err != nil {
		return api.Credentials{}, v.s.problem(err)
	}
	c, err := l.wallet.get(ctx, r)
	if err != nil {
		return c, v.s.problem(err)
	}
	return c, nil
}

// forBroker is current for whoever wants a certain broker; "" means any.
func (s *Server) forBroker(ctx context.Context, origin string) (*life, error) {
	l, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if origin != "" && origin != l.login.Origin() {
		return nil, api.Errorf(KindOther, "you are not logged in to %s", origin).WithHint("run: sega login")
	}
	return l, nil
}

func (s *Server) status() Reply {
	s.mu.Lock()
	l, locked := s.life, s.locked
	s.mu.Unlock()
	out := &Status{PID: os.Getpid(), SSHSocket: SSHSocket(s.cfg.Socket), Version: s.cfg.Version, Network: s.cfg.Network, Started: s.started.UTC(), State: StateEmpty, Roles: []Held{}}
	switch {
	case locked:
		out.State = StateLocked
	case l == nil:
	case l.over() == nil:
		out.State = StateReady
		l.describe(out)
	case l.over().Kind == api.KindRevoked:
		out.State, out.Why = StateRevoked, l.over().Detail
	default:
		out.Why = l.over().Detail
	}
	return Reply{Status: out}
}

// rest stops the agent when nobody has asked for long and no child is left that may, or when nobody can
// find it any more.
func (s *Server) rest(ctx context.Context) {
	tick := time.NewTicker(min(restEvery, max(s.cfg.Idle/4, time.Millisecond)))
	defer tick.Stop()
	mine, err := os.Lstat(s.cfg.Socket)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, nowErr := os.Lstat(s.cfg.Socket)
		switch {
		case err != nil || nowErr != nil || !os.SameFile(mine, now):
			s.cfg.Logger.Info("stopping: the socket has gone")
		case s.idle():
			s.cfg.Logger.Info("stopping: nobody has asked for long")
		default:
			continue
		}
		s.stop()
		return
	}
}

func (s *Server) idle() bool {
	s.mu.Lock()
	since := time.Since(s.touched)
	s.mu.Unlock()
	return since > s.cfg.Idle && !s.children.live()
}
