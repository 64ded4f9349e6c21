package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"sega/broker"
)

// maxSocketPath is the longest path of a Unix socket, less the zero at its end (unix(7)).
const maxSocketPath = 107

// serveOperators answers `segad ca` on a Unix socket until ctx ends: to root and to the account that the broker runs as.
func serveOperators(ctx context.Context, path string, server *broker.Server, log *slog.Logger) error {
	if path == "" {
		return nil
	}
	l, err := listenOperators(path)
	if err != nil {
		// Sessions and certificates do not hang on it.
		log.Error("segad ca cannot ask this broker: its socket was not opened", "path", path, "error", err)
		return nil
	}
	web := &http.Server{Handler: server.Operators(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			who, err := operator(c)
			if err != nil {
				log.Warn("somebody was refused at the operators' socket", "error", err)
				return ctx
			}
			return broker.WithOperator(ctx, who)
		}}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listenOperators takes the place of a socket that nobody listens at any more.
func listenOperators(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of a socket has %d characters at the most: name another one as `operators` in the configuration", maxSocketPath)
	}
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(errors.New("another broker listens there"), c.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := syscall.Umask(0o177) // nobody else is to connect in between
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	return l, err
}

// operator is who is at the other end, by the kernel's word.
func operator(c net.Conn) (broker.Operator, error) {
	uid, err := peerUID(c)
	if err != nil {
		return broker.Operator{}, err
	}
	if uid != 0 && uid != os.Getuid() {
		return broker.Operator{}, fmt.Errorf("uid %d is neither root nor the broker's own", uid)
	}
	who := broker.Operator{Subject: "uid:" + strconv.Itoa(uid), Name: strconv.Itoa(uid)}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		who.Name = u.Username
	}
	return who, nil
}
