package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"sega/audit/store"
	"sega/broker"
	"sega/cmd/segad/config"
)

// drainTime bounds a graceful shutdown.
const drainTime = 10 * time.Second

// quietTime is how long nothing must have been under way before connections are closed that do not
// end by themselves: the last answers are out by then.
const quietTime = time.Second

// policyPoll is how often the policy folder is looked at.
const policyPoll = time.Second

// maxConnections bounds what clients that read nothing can hold. Agents' feeds may take all but 2,048 of
// them (feedsInAll in broker/agents.go).
const maxConnections = 12 << 10

// sweepEvery is how often expired records are dropped.
const sweepEvery = time.Hour

// settleEvery is how long an intent whose outcome could not be recorded stays open after the disk or
// the database has come back.
const settleEvery = 10 * time.Second

func newBroker() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "broker", Short: "Run the broker", Args: exactly(0), Example: "  segad broker --config /etc/sega/broker.yaml",
		Long: "Run the broker until SIGINT or SIGTERM. SIGHUP reads the policy anew; a changed policy folder is noticed by itself. A bad policy is refused and the last good one kept.",
		RunE: func(cmd *cobra.Command, _ []string) error { return runBroker(cmd.Context(), path, newLogger()) }}
	c.Flags().StringVar(&path, "config", "", "configuration file (YAML)")
	_ = c.MarkFlagRequired("config")
	return c
}

func newLogger() *slog.Logger { return slog.New(slog.NewJSONHandler(os.Stderr, nil)) }

func runBroker(ctx context.Context, path string, log *slog.Logger) error {
	defer relaxCollector(spareBroker)()
	file, err := config.LoadBroker(path)
	if err != nil {
		return err
	}
	parts, err := openBroker(ctx, path, file, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := parts.log.Close(); err != nil {
			log.Error("close the database", "error", err)
		}
	}()
	server, err := broker.New(ctx, parts.config)
	if err != nil {
		return err
	}
	noted := &mark{path: file.MarkFile(path), log: parts.log, revoked: &revoked{path: file.RevokedFile(path), log: parts.log, logger: log}}
	if err := noted.note(ctx); err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(config.Path(path, file.TLS.Certificate), config.Path(path, file.TLS.Key))
	if err != nil {
		return fmt.Errorf("certificate of the broker: %w", err)
	}
	listener, err := net.Listen("tcp", file.Listen)
	if err != nil {
		return err
	}
	listener = netutil.LimitListener(listener, maxConnections)
	web := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		// A laptop that sleeps says no good-bye: without an answer to a ping its feed ends after half a minute.
		HTTP2:          &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}}
	log.Info("broker is ready", "origin", file.Origin, "listen", listener.Addr().String(), "policy", server.Policy.Set().Digest())
	err = serveBroker(ctx, web, listener, server, noted, config.Path(path, file.Policy), file.OperatorsSocket(path), log)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), markLast)
	defer cancel()
	return errors.Join(err, noted.note(last))
}

// serveBroker runs the web server and the watchers until ctx ends, then drains.
func serveBroker(ctx context.Context, web *http.Server, listener net.Listener, server *broker.Server, noted *mark, policyDir, operators string, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := web.ServeTLS(listener, "", "")
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	group.Go(func() error {
		<-ctx.Done()
		return drain(context.WithoutCancel(ctx), web, server)
	})
	group.Go(func() error { return watchPolicy(ctx, server, policyDir, log) })
	group.Go(func() error { return noted.keep(ctx, log) })
	group.Go(func() error { return server.KeepCAs(ctx) })
	group.Go(func() error { return serveOperators(ctx, operators, server, log) })
	group.Go(func() error { return sweep(ctx, server, log) })
	return group.Wait()
}

// drain answers what was begun and ends. HTTP/2 connections whose handshake ends while net/http
// shuts down are never told, and would hold it up for as long as it waits; so once nothing has been
// under way for a while, what is left is closed.
func drain(ctx context.Context, web *http.Server, server *broker.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	server.Drain()
	done := make(chan error, 1)
	go func() { done <- web.Shutdown(ctx) }() // ends with ctx at the latest
	tick := time.NewTicker(quietTime / 10)
	defer tick.Stop()
	for quiet := 0; quiet < 10; quiet++ {
		select {
		case err := <-done:
			return errors.Join(ignoreDeadline(err), web.Close())
		case <-tick.C:
		}
		if server.Busy() > 0 {
			quiet = 0
		}
	}
	cancel()
	<-done
	return web.Close()
}

// ignoreDeadline: what is still under way at the end of the drain is cut, and that is all.
func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// watchPolicy reloads on SIGHUP and whenever a file of the folder changes.
func watchPolicy(ctx context.Context, server *broker.Server, dir string, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(policyPoll)
	defer tick.Stop()
	last := fingerprint(dir)
	seen := last
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			// Two looks must agree: a checkout in the middle of its work is no policy.
			before := seen
			if seen = fingerprint(dir); seen == last || seen != before {
				continue
			}
		case <-hangup:
			seen = fingerprint(dir)
		}
		last = seen
		if err := server.Reload(ctx); err != nil {
			log.Error("policy not reloaded: the last good one stays in force", "error", err)
			if errors.Is(err, store.ErrUnavailable) {
				last = "" // the policy may be good: what failed is its event, so look again
			}
			continue
		}
		log.Info("policy reloaded", "digest", server.Policy.Set().Digest())
	}
}

// fingerprint changes whenever a file of the folder is added, removed or written.
func fingerprint(dir string) string {
	out := ""
	_ = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			out += name + "?" + err.Error()
			return nil
		}
		if info, err := d.Info(); err == nil {
			out += fmt.Sprintf("%s %d %d;", name, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return out
}

// sweep settles what is left open, and forgets from time to time what has expired.
func sweep(ctx context.Context, server *broker.Server, log *slog.Logger) error {
	settle, forget := time.NewTicker(settleEvery), time.NewTicker(sweepEvery)
	defer settle.Stop()
	defer forget.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-settle.C:
			err = server.Settle(ctx)
		case <-forget.C:
			err = server.Sweep(ctx)
		}
		if err != nil {
			log.Error("records not tidied up", "error", err)
		}
	}
}
