package agent

import (
	"context"
	"errors"
	"net"
	"sync"

	"sega/broker/api"
	"sega/cmd/sega/endpoint"
)

// anyPort is where children find the endpoint: on this machine alone.
const anyPort = "127.0.0.1:0"

// children are the processes that get their credentials over HTTP, anew for as long as they run.
type children struct {
	source endpoint.Source
	serve  func(func()) // runs a server until the agent ends

	mu     sync.Mutex
	server *endpoint.Server // nil until the first child
	base   string           // "http://127.0.0.1:PORT"
	paths  []child          // in the order of their coming
	person string           // whose they are
}

// child is one that was started with an endpoint. What it has started in its turn may live on when it
// has gone, so its path goes only where room is needed.
type child struct {
	pid  int
	path string
}

// add opens an endpoint for a person's process.
func (c *children) add(ctx context.Context, p api.Person, pid int, r api.CredentialsRequest) (*Endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.person != personKey(p) {
		return nil, api.Errorf(api.KindUnauthenticated, "somebody else has logged in meanwhile").WithHint("run the command again")
	}
	if pid <= 0 { // kill(2) takes it for many
		return nil, api.Errorf(api.KindInvalid, "an endpoint for which process?")
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	path, token, err := c.server.Add(r)
	if errors.Is(err, endpoint.ErrFull) {
		c.makeRoom()
		path, token, err = c.server.Add(r)
	}
	if err != nil {
		return nil, err
	}
	c.paths = append(c.paths, child{pid, path})
	return &Endpoint{URL: c.base + path, Token: token}, nil
}

// open listens with the first child. Under the lock.
func (c *children) open(ctx context.Context) error {
	if c.server != nil {
		return nil
	}
	server, err := endpoint.New(endpoint.Config{Source: c.source})
	if err != nil {
		return err
	}
	l, err := endpoint.Listen(ctx, anyPort)
	if err != nil {
		return err
	}
	c.server, c.base = server, "http://"+l.Addr().(*net.TCPAddr).String()
	c.serve(func() { _ = endpoint.Serve(ctx, l, server) })
	return nil
}

// makeRoom drops the paths of the older half of those whose process has gone. Under the lock.
func (c *children) makeRoom() {
	var stay []child
	left := len(c.paths) / 2
	for _, v := range c.paths {
		if left > 0 && !lives(v.pid) {
			c.server.Drop(v.path)
			left--
			continue
		}
		stay = append(stay, v)
	}
	c.paths = stay
}

// live reports whether a process that was given an endpoint is there.
func (c *children) live() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.paths {
		if lives(v.pid) {
			return true
		}
	}
	return false
}

// personKey is who somebody is (R2).
func personKey(p api.Person) string { return p.Issuer + "\x00" + p.Subject }

// are makes them children of a person: what another one's were given is void.
func (c *children) are(p api.Person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	person := personKey(p)
	if c.person != person && c.server != nil {
		c.server.Forget()
		c.paths = nil
	}
	c.person = person
}
