//go:build linux

package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"sega/broker/api"
	"sega/sshca/krl"
)

const (
	retryLeast = time.Second
	retryMost  = 30 * time.Second
	renewEvery = time.Minute // how often the certificate's age is looked at
)

// Daemon keeps what logins are judged by, and answers sshd's questions.
type Daemon struct {
	cfg   Config
	m     *machine
	log   *slog.Logger
	share float64
	asker asker

	keeper    *keeper // asked by follow alone
	unwritten bool    // what is in force could not be written, and is tried again; follow's alone

	looked looked        // keepCertificate's alone
	list   chan struct{} // there is a new revocation list

	mu    sync.Mutex
	held  cached
	fault error // of the last try to renew the certificate
	lost  lost

	changing sync.Mutex // one at a time changes sshd's files
}

// NewDaemon reads the host's configuration, its key and its last bundle.
func NewDaemon(dir, userAgent string, log *slog.Logger) (*Daemon, error) {
	c, err := Load(dir)
	if err != nil {
		return nil, err
	}
	key, err := machineKey(c.file(keyName))
	if err != nil {
		return nil, err
	}
	m, err := newMachine(c, key, userAgent)
	if err != nil {
		return nil, err
	}
	d := &Daemon{cfg: c, m: m, log: log, share: newShare(), list: make(chan struct{}, 1)}
	if d.held, err = readBundle(c.file(bundleName)); err != nil {
		log.Warn("no bundle on the disk: every login is refused until the broker answers", "error", err)
	}
	d.held.krl = c.krlVersion()
	d.keeper, err = newKeeper(c, func(login string, err error) {
		log.Error("an account is not as it should be", "login", login, "error", err)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Run serves until ctx ends.
func (d *Daemon) Run(ctx context.Context) error {
	l, err := listen(d.cfg.Socket)
	if err != nil {
		return err
	}
	defer d.m.client.Close()
	told := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.follow(ctx) })
	wg.Go(func() { d.keepCertificate(ctx) })
	wg.Go(func() {
		if err := d.serve(ctx, l, answerTime); err != nil {
			cancel(err)
		}
	})
	d.log.Info("host is ready", "host", d.cfg.Name, "broker", d.cfg.Broker, "socket", d.cfg.Socket)
	<-ctx.Done()
	_ = l.Close()
	wg.Wait()
	if told.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

func (d *Daemon) now() cached {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// lost says since when the broker's bundle does not come, and why; zero where it does.
type lost struct {
	since time.Time
	why   string // of the last try
}

// tried notes how a question for the bundle has ended.
func (d *Daemon) tried(err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch was := d.lost.since; {
	case err == nil && !was.IsZero():
		d.log.Info("the broker answers again")
		d.lost = lost{}
	case err == nil:
	case was.IsZero():
		d.log.Error("the broker's bundle does not come: the last one holds", "error", err, "bundle", d.held.in(now))
		d.lost = lost{now, err.Error()}
	default:
		d.lost.why = err.Error()
	}
}

// standing is what the daemon says of itself, and why to root alone.
func (d *Daemon) standing(uid int) response {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := response{Lost: d.lost.since}
	if uid == 0 {
		r.LostWhy = d.lost.why
		if d.fault != nil {
			r.Why = d.fault.Error()
		}
	}
	return r
}

// follow keeps the bundle at the broker's. What the broker says last holds for as long as it is away.
func (d *Daemon) follow(ctx context.Context) {
	wait := retryLeast
	for ctx.Err() == nil {
		err := d.once(ctx)
		if ctx.Err() != nil {
			return
		}
		d.tried(err, time.Now())
		if err == nil {
			wait = retryLeast
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait + time.Duration(d.share*float64(wait))):
		}
		wait = min(2*wait, retryMost)
	}
}

// once asks for the bundle and puts what comes in force.
func (d *Daemon) once(ctx context.Context) error {
	have := d.now()
	got, err := fetchBundle(ctx, d.m, d.cfg, have)
	if api.IsKind(err, api.KindRevoked) && (!have.Blocked || d.unwritten) {
		have.Blocked = true
		d.log.Error("this host was revoked: every login is refused from now on", "error", err)
		return errors.Join(err, d.keep(have))
	}
	if err != nil {
		return err
	}
	got.Bundle.Accounts = d.keeper.sync(ctx, got.Bundle.Accounts)
	same := slices.EqualFunc(got.Bundle.Accounts, have.Bundle.Accounts, func(a, b api.HostAccount) bool { return a.Login == b.Login })
	if got.Bundle.Version == have.Bundle.Version && !have.Blocked && same && !d.unwritten {
		err = d.heard(got)
	} else {
		err = d.keep(got)
	}
	return errors.Join(err, d.keepKRL(ctx, got))
}

// keepKRL puts the revocation list of a bundle in force, by rename: sshd reads it at each login, and lets nobody in
// while it is none. Where it does not come the bundle holds all the same, and it is asked for again.
func (d *Daemon) keepKRL(ctx context.Context, v cached) error {
	if d.cfg.PlainKeys || v.krl >= v.Bundle.KRL {
		return nil
	}
	list, version, err := fetchKRL(ctx, d.m, v.krl)
	if err != nil || list == nil {
		return err
	}
	if err := krl.Replace(d.cfg.file(krlName), list); err != nil {
		return err
	}
	d.mu.Lock()
	d.held.krl = version
	d.mu.Unlock()
	d.log.Info("revocation list in force", "version", version, "bytes", len(list))
	select {
	case d.list <- struct{}{}:
	default: // it is looked at already
	}
	return nil
}

// heard notes that the broker has confirmed what is in force.
func (d *Daemon) heard(v cached) error {
	d.mu.Lock()
	d.held.contact, d.held.heard = v.contact, true
	d.mu.Unlock()
	return os.Chtimes(d.cfg.file(bundleName), time.Time{}, v.contact)
}

// keep puts a bundle in force: at once for whoever asks here, and on the disk, where sshd itself reads.
func (d *Daemon) keep(v cached) error {
	d.mu.Lock()
	d.held = v
	d.mu.Unlock()
	d.changing.Lock()
	defer d.changing.Unlock()
	d.unwritten = true
	all, err := d.cfg.filesOf(v)
	if err != nil {
		return err
	}
	if _, err := all.pending().apply(); err != nil {
		return err
	}
	d.unwritten = false
	d.log.Info("bundle in force", "version", v.Bundle.Version, "trust", v.Bundle.Trust, "krl", v.Bundle.KRL, "blocked", v.Blocked)
	return nil
}

// keepCertificate renews the host's certificate before it ends, and at once where a list names it.
func (d *Daemon) keepCertificate(ctx context.Context) {
	if d.cfg.PlainKeys {
		return
	}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		err := d.renew(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Error("the host's certificate is not renewed", "error", err)
		}
		d.mu.Lock()
		d.fault = err
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.list:
		}
	}
}

func (d *Daemon) renew(ctx context.Context) error {
	v := d.now()
	if !v.mayRenew() {
		return nil
	}
	key, err := readPublicKey(d.cfg.HostKey)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(d.cfg.Certificate)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if !due(string(have), key, v.Bundle, time.Now(), d.share) && !d.revoked(v, string(have)) {
		return nil
	}
	cert, err := d.cfg.certificate(ctx, d.m, key, v.Bundle)
	if err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	running, err := d.cfg.change(ctx, changes{*cert}, true)
	if err != nil {
		return err
	}
	d.log.Info("the host's certificate was renewed")
	if !running {
		d.log.Warn("no sshd of this configuration was found to run: one that does shows the old certificate until it reads its configuration anew", "sshd_config", d.cfg.SSHDConfig)
	}
	return nil
}
