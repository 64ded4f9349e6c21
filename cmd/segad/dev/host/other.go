//go:build !unix

package host

import (
	"context"
	"errors"
)

var errNotUnix = errors.New("dev host: the stand-in for sshd runs on Unix systems only; install OpenSSH's server instead")

// Server does not exist on this system.
type Server struct{}

// New fails: there are no Unix terminals and process groups here.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return nil, errNotUnix
}

// Run fails as New does.
func (*Server) Run(context.Context) error { return errNotUnix }
