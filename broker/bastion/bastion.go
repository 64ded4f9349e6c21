package bastion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
	"sega/sshca"
)

// Control is the broker, as the bastion needs it. broker/client implements it. Errors of the broker
// are *api.Problem; all else means that it did not answer, and ErrNoSession that it was not asked.
type Control interface {
	Hop(ctx context.Context, r api.HopRequest) (api.Hop, error)
	Report(ctx context.Context, reports []api.Report) error
	Channel(ctx context.Context, r api.ChannelRequest) (api.ChannelGrant, error)
	Front(ctx context.Context, r api.FrontRequest) (api.Certificate, error)
	Ack(ctx context.Context, a api.Ack) error
	// Feed hands items to handle in order and blocks; it returns when the feed is lost, when ctx
	// ends, and with handle's error.
	Feed(ctx context.Context, after int64, checkpoint []byte, handle func(api.FeedItem) error) error
}

// Config is what New needs. Durations that are zero get the default named beside them.
type Config struct {
	Name     string // principal of the bastion's own host certificate
	Listener net.Listener
	Control  Control
	DataDir  string // spool/, reports/, quarantine/, feed.json; created with mode 0700
	Bucket   bucket.Store

	Recipients          []age.Recipient // who may read recordings: two at least
	RecipientNames      []string
	InputRecipients     []age.Recipient // who may read what people typed; nil for Recipients
	InputRecipientNames []string
	Hash                recording.Hash // of recordings; "" for the format's default

	Witness   func(ctx context.Context, checkpoint []byte) error // judges checkpoints of the log; may be nil
	Log       *slog.Logger                                       // default: slog.Default()
	Now       func() time.Time                                   // default: time.Now
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	Spool     func(SpoolFile) SpoolFile // wraps spool files; may be nil
	JumpPorts []uint32                  // ports that ssh -J may name; default: 22
	Banner    string                    // shown before anybody is known, to everybody; at most 4 KiB of printable lines
	MOTD      string                    // shown to a shell on a terminal; the same
	Rekey     uint64                    // bytes after which the bastion asks for new keys; default: what the cipher bears

	HeadsEvery    time.Duration // 10 s: heads of open recordings into the log
	UploadEvery   time.Duration // 2 s: what was recorded since into the bucket
	Lease         time.Duration // 30 s, until the feed names another
	FeedSilence   time.Duration // 3 s without an item: the feed is lost
	LoginGrace    time.Duration // 30 s
	JumpIdle      time.Duration // 10 min without a connection through it: an outer connection of ssh -J is closed
	KeepAlive     time.Duration // 15 s without a byte: the client, or the host, is asked for a sign of life; after four of them it is lost
	CallTimeout   time.Duration // 10 s for each call of the broker
	DialTimeout   time.Duration // 15 s for connecting and authenticating to a host
	RefuseWindow  time.Duration // 10 s in which repeated refusals become one event
	ShutdownGrace time.Duration // 10 s for the last uploads and reports
	MaxHandshakes int           // 256 unauthenticated connections at a time; one more drops the oldest
	MaxPerSource  int           // 64 of them from one address, or one /64 of IPv6; one more drops its oldest

	Reserve         uint64               // bytes of the spool's disk below which nothing new opens; 0: 1 GiB, and at most a twentieth of the disk
	Measure         func() (room, error) // of that disk, for tests; default: the file system is asked
	StoragePatience time.Duration        // 30 s in which uploads of a session fail before its ladder acts
	Drain           time.Duration        // for how long sessions may go on when Run's ctx has ended; 0: not at all
	Hurry           <-chan struct{}      // closed: draining ends at once; may be nil
	SessionMax      int64                // bytes that the recording of a session may take; 0: no limit
	PersonMax       int64                // bytes that recordings of a person may take until they are stored; 0: no limit

	TrustedProxies []netip.Prefix // whose connections begin with a header of the PROXY protocol, and nobody else's (R13)
}

// Bastion is the SSH proxy. Run serves it.
type Bastion struct {
	cfg        Config
	reg        *registry
	feed       *feed
	masks      *masks
	calls      *meter
	refusals   *refusals
	reports    *reportQueue
	spool      *spool
	quarantine string
	leftovers  []string // session IDs of an earlier process
	strays     []string // IDs of its sessions of which nothing is left but a journal
	door       *door
	attempts   *attempts
	disk       *disk
	quotas     *quotas
	buffers    buffers
	drains     atomic.Int64 // since when, in Unix nanoseconds; 0: it does not
	proxyDoor  *door        // of connections of listed proxies, until their header has come

	archives    sync.WaitGroup
	bulk        sync.Pool       // buffers of streams that are busy, see streamBuffer
	archiveCtx  context.Context // ends the uploads of closed recordings
	stopArchive context.CancelFunc
	awaitCtx    context.Context // ends their waiting for the broker to take the ends of their sessions
	stopAwait   context.CancelFunc
}

// New checks cfg, prepares DataDir and reads what an earlier process has left there. Two processes
// must not share a DataDir.
func New(cfg Config) (*Bastion, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	b := &Bastion{cfg: cfg, reg: newRegistry(), quarantine: filepath.Join(cfg.DataDir, quarantineDir),
		door: newDoor(cfg.MaxHandshakes, cfg.MaxPerSource), proxyDoor: newDoor(cfg.MaxHandshakes, cfg.MaxHandshakes)}
	b.archiveCtx, b.stopArchive = context.WithCancel(context.Background())
	b.awaitCtx, b.stopAwait = context.WithCancel(b.archiveCtx)
	b.attempts = newAttempts(cfg.Now)
	b.disk = &disk{measure: cfg.Measure, reserve: cfg.Reserve}
	b.quotas = newQuotas(cfg.SessionMax, cfg.PersonMax)
	if err := b.openData(); err != nil {
		return nil, err
	}
	b.countLeftovers()
	b.calls = newMeter()
	b.masks = newMasks(cfg.Control, cfg.Name, b.feed.trustNow, cfg.Now, b.calls)
	b.feed.dropFront = b.masks.revoke
	b.refusals = &refusals{queue: newReports(refuseQueue, cfg.Control, cfg.Log), now: cfg.Now, window: cfg.RefuseWindow,
		seen: map[netip.Prefix]*knocker{}}
	return b, nil
}

func (c *Config) check() error {
	if err := sshca.CheckHostName(c.Name); err != nil {
		return fmt.Errorf("bastion: name: %w", err)
	}
	switch {
	case c.Listener == nil || c.Control == nil || c.Bucket == nil:
		return errors.New("bastion: needs a listener, a broker and a bucket")
	case c.DataDir == "":
		return errors.New("bastion: needs a data directory")
	case c.KeepAlive < 0:
		return fmt.Errorf("bastion: keepalive of %v", c.KeepAlive)
	case !plainLines(c.Banner) || !plainLines(c.MOTD):
		return errors.New("bastion: banner and MOTD are printable lines, of 4 KiB at most")
	case unrecorded && !onLoopback(c.Listener.Addr()):
		return errors.New("bastion: this build records nothing, and listens on loopback alone: run make build")
	case len(c.Recipients) < 2:
		return errors.New("bastion: recordings need two recipients at least, one of them an offline recovery key")
	}
	return nil
}

func onLoopback(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

func (c *Config) setDefaults() {
	c.HeadsEvery = cmp.Or(c.HeadsEvery, 10*time.Second)
	c.UploadEvery = cmp.Or(c.UploadEvery, 2*time.Second)
	c.Lease = cmp.Or(c.Lease, defaultLease)
	c.FeedSilence = cmp.Or(c.FeedSilence, 3*time.Second)
	c.LoginGrace = cmp.Or(c.LoginGrace, 30*time.Second)
	c.JumpIdle = cmp.Or(c.JumpIdle, 10*time.Minute)
	c.KeepAlive = cmp.Or(c.KeepAlive, 15*time.Second)
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 15*time.Second)
	c.RefuseWindow = cmp.Or(c.RefuseWindow, 10*time.Second)
	c.ShutdownGrace = cmp.Or(c.ShutdownGrace, 10*time.Second)
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, 256)
	c.MaxPerSource = cmp.Or(c.MaxPerSource, 64)
	c.StoragePatience = cmp.Or(c.StoragePatience, storagePatience)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Measure == nil {
		c.Measure = measureDisk(filepath.Join(c.DataDir, "spool"))
	}
	if len(c.JumpPorts) == 0 {
		c.JumpPorts = []uint32{22}
	}
}

func (b *Bastion) openData() error {
	spoolDir, reportDir := filepath.Join(b.cfg.DataDir, "spool"), filepath.Join(b.cfg.DataDir, "reports")
	for _, dir := range []string{b.cfg.DataDir, spoolDir, reportDir, b.quarantine} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("bastion: %w", err)
		}
	}
	var err error
	if b.spool, err = openSpool(spoolDir); err != nil {
		return fmt.Errorf("bastion: %w", err)
	}
	b.spool.wrap, b.spool.removed = b.cfg.Spool, b.quotas.forget
	if b.leftovers, err = b.spool.sessions(); err != nil {
		return fmt.Errorf("bastion: %w", err)
	}
	if b.strays, err = b.spool.journals(); err != nil {
		return fmt.Errorf("bastion: %w", err)
	}
	b.strays = slices.DeleteFunc(b.strays, func(id string) bool { return slices.Contains(b.leftovers, id) })
	if b.reports, err = openReports(reportDir, b.quarantine, b.cfg.Control, b.cfg.Log); err != nil {
		return fmt.Errorf("bastion: %w", err)
	}
	return b.openFeed()
}

func (b *Bastion) openFeed() error {
	store := feedStore{filepath.Join(b.cfg.DataDir, "feed.json")}
	mark, err := store.load()
	if errors.Is(err, errNoMark) {
		b.cfg.Log.Error("every revocation will be repeated", "error", err)
	} else if err != nil {
		return fmt.Errorf("bastion: %w", err)
	}
	b.feed = &feed{control: b.cfg.Control, reg: b.reg, report: b.reports.post, witness: b.cfg.Witness, store: store, log: b.cfg.Log,
		silence: b.cfg.FeedSilence, lease: b.cfg.Lease, acks: newAckQueue(b.cfg.Control, b.cfg.Log), carried: make(chan carried, carriedMost), mark: mark,
		seen: make(chan []byte, 1), moved: make(chan struct{}, 1), turned: make(chan struct{}, 1), ready: make(chan struct{})}
	return nil
}

// Run serves until ctx ends, then drains, ends every session with a reason, and returns when nothing of the
// bastion runs any more. What could not be delivered by then waits in DataDir for the next start.
func (b *Bastion) Run(ctx context.Context) error {
	support, stopSupport := context.WithCancel(context.WithoutCancel(ctx))
	g, support := errgroup.WithContext(support)
	g.Go(func() error { return b.feed.run(support) })
	g.Go(func() error { return b.refusals.run(support) })
	g.Go(func() error { return b.refusals.queue.run(support) })
	g.Go(func() error { return b.reports.run(support) })
	g.Go(func() error { return b.witnessHeads(support) })
	g.Go(func() error { return b.keepFront(support) })
	g.Go(func() error { return b.watchDisk(support) })
	b.serveAll(ctx)
	b.settleArchives()
	stopSupport()
	err := g.Wait()
	return errors.Join(err, b.lastReports(context.WithoutCancel(ctx)), b.spool.close())
}

// serveAll accepts connections until ctx ends and returns when all have ended.
func (b *Bastion) serveAll(ctx context.Context) {
	connCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var conns, accepting sync.WaitGroup
	conns.Go(func() { b.recoverAll(connCtx) })
	accepting.Go(func() { b.acceptAll(ctx, connCtx, &conns) })
	<-ctx.Done()
	_ = b.cfg.Listener.Close()
	accepting.Wait()
	b.drain(connCtx)
	b.reg.cut(everybody, shuttingDown()).finish()
	cancel(shuttingDown())
	conns.Wait()
}

// settleArchives gives uploads that are under way the grace to end, and so the reports behind them where the broker is there to
// take them.
func (b *Bastion) settleArchives() {
	if !b.feed.following() {
		b.stopAwait()
	}
	timer := time.AfterFunc(b.cfg.ShutdownGrace, b.stopArchive)
	defer timer.Stop()
	b.archives.Wait()
	b.stopArchive()
}

// lastReports tries once more to deliver; what is left is on disk.
func (b *Bastion) lastReports(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.CallTimeout)
	defer cancel()
	b.reports.writing.Wait() // nobody posts any more
	if _, err := b.reports.flush(ctx); err != nil {
		b.cfg.Log.Warn("reports wait for the next start", "error", err)
	}
	if _, err := b.refusals.queue.flush(ctx); err != nil {
		b.cfg.Log.Warn("reports of refusals are lost", "error", err)
	}
	return nil
}

// keepFront gets the bastion's own certificate before the first person needs it, and renews it.
func (b *Bastion) keepFront(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-b.feed.ready:
	}
	tick := time.NewTicker(frontCheck)
	defer tick.Stop()
	for {
		if _, err := b.masks.own(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Log.Warn("no host certificate", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const frontCheck = 10 * time.Second
