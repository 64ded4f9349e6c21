package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrNotRunning is for a socket at which nobody answers, or whose agent has ended before it answered.
var ErrNotRunning = errors.New("agent: none is running")

// ErrVersion is for an agent that speaks another version of the protocol: it takes OpStop.
var ErrVersion = errors.New("agent: the one that runs is of another version of sega")

// ErrStranger is for a socket at which another user answers: nothing was sent there.
var ErrStranger = errors.New("agent: somebody else's process answers at the socket")

// callTime bounds a call: an agent itself waits for the broker, and that for AWS.
const callTime = 50 * time.Second

// Call asks the agent at a socket once. The reply's problem is no error of Call.
func Call(ctx context.Context, socket string, r Request) (Reply, error) {
	var reply Reply
	line, err := exchange(ctx, socket, r)
	if err == nil {
		reply, err = understand(line, r.Op)
	}
	return reply, err
}

// Process asks for credentials in the form of credential_process, a line of JSON that it passes on as it
// is: this is the path on which milliseconds count. Where there are none the reply holds the problem.
func Process(ctx context.Context, socket string, r Request) (form []byte, reply Reply, err error) {
	r.Op = OpProcess
	line, err := exchange(ctx, socket, r)
	if err != nil || bytes.HasPrefix(line, []byte(processBegin)) {
		return line, Reply{}, err
	}
	reply, err = understand(line, r.Op)
	return nil, reply, err
}

// understand reads a reply. That to OpStop is the same in every version.
func understand(line []byte, op string) (Reply, error) {
	var reply Reply
	if err := decode(line, &reply); err != nil {
		return Reply{}, err
	}
	if reply.V != Version && op != OpStop {
		return Reply{}, ErrVersion
	}
	return reply, nil
}

// hungUp reports whether the other end has gone before it answered: an agent that stops lets those go
// that it has not heard yet.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// exchange sends a request and returns the line that answers it.
func exchange(ctx context.Context, socket string, r Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer func() { _ = conn.Close() }()
	if uid, _, err := peer(conn); err != nil {
		return nil, err
	} else if uid != os.Getuid() {
		return nil, ErrStranger
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r.V = Version
	var line []byte
	if err = send(conn, r); err == nil {
		line, err = receive(conn)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if hungUp(err) {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	if err != nil {
		return nil, fmt.Errorf("agent: ask: %w", err)
	}
	return line, nil
}
