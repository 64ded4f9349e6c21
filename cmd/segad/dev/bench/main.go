//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// outFile is written into the current folder.
const outFile = "bench.json"

func main() {
	// Children are told to end with the thread that has started them: it must be one that stays.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "measure only what begins with this, like bastion or cli.size")
	proxy := flags.String("bare-proxy", "", "be the bare proxy that the bastion is compared with; the folder of its files")
	floor := flags.String("floor", "", "be the floor of broker.cert; the folder of its certificate")
	listen := flags.String("listen", "", "address of the floor")
	calls := flags.Int("calls", brokerCalls, "certificates that each client of broker.cert asks for")
	events := flags.Int("events", 5_000_000, "events of the year that audit.query searches")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *proxy != "" {
		return runBareProxy(ctx, *proxy)
	}
	if *floor != "" {
		return runFloor(ctx, *floor, *listen)
	}
	b := &bench{ctx: ctx, only: *only, talk: os.Stderr, events: *events, certCalls: *calls}
	err := b.measure() // what was measured before a failure is printed all the same
	if len(b.results) == 0 {
		return err
	}
	b.describe(os.Stdout)
	return errors.Join(err, table(os.Stdout, b.results), write(outFile, b.results))
}

// bench is one run.
type bench struct {
	ctx    context.Context
	only   string
	events int // of a year of audit.query

	certCalls int // of each client of broker.cert
	talk      io.Writer
	tags      string // of the servers' build
	dir       string // of everything that the run makes
	env       *environment
	step      *stepServer
	ssh       *sshLab
	results   []Result
}

// step measures every name that begins with its own.
type step struct {
	name string
	run  func(*bench) error
}

func steps() []step {
	return []step{
		{"cli.size", (*bench).size}, {"cli.start", (*bench).start},
		{"cli.credential_process", (*bench).credentialProcess}, {"cli.status", (*bench).status}, {"cli.singleflight", (*bench).singleFlight}, {"cli.exec", (*bench).exec}, {"cli.configure", (*bench).configure},
		{"broker.cert", (*bench).certificates}, {"broker.assume", (*bench).assume},
		{"broker.feed", (*bench).idleFeeds},
		{"audit.append", (*bench).appends}, {"audit.query", (*bench).queries},
		{"bastion.idle", (*bench).idle}, // first: a bastion that has worked has memory to spare
		{"bastion.connect", (*bench).connect}, {"bastion.echo", (*bench).echo}, {"bastion.bulk", (*bench).bulk},
		{"revoke.cut", (*bench).cut}, {"revoke.krl", (*bench).revokedKeys},
	}
}

// wanted reports whether a step can measure something of what is asked for.
func wanted(step, only string) bool {
	return strings.HasPrefix(step, only) || strings.HasPrefix(only, step)
}

func (b *bench) measure() (err error) {
	if b.dir, err = os.MkdirTemp("", "sega-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	found, failed := false, []error(nil)
	for _, s := range steps() {
		if !wanted(s.name, b.only) {
			continue
		}
		found = true
		from := time.Now()
		if err := s.run(b); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			fmt.Fprintf(b.talk, "%s: %v\n", s.name, err)
			if b.ctx.Err() != nil {
				break
			}
			continue
		}
		fmt.Fprintf(b.talk, "%s: %.1f s\n", s.name, time.Since(from).Seconds())
	}
	if !found {
		return fmt.Errorf("nothing is called %q", b.only)
	}
	return errors.Join(failed...)
}

// close ends what runs and removes what was made.
func (b *bench) close() error {
	var errs []error
	if b.ssh != nil {
		errs = append(errs, b.ssh.stop())
	}
	if b.step != nil {
		errs = append(errs, b.step.stop())
	}
	if b.env != nil {
		errs = append(errs, b.env.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// add keeps what was asked for.
func (b *bench) add(results ...Result) {
	for _, r := range results {
		if strings.HasPrefix(r.Name, b.only) {
			b.results = append(b.results, r)
		}
	}
}

// describe says what the figures depend on.
func (b *bench) describe(w io.Writer) {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(w, "%s/%s, %d processors, %s, load %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " "))
}
