package bastion

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

// TestRung: what a ladder says holds only where it loosens nothing, and what is not known ends.
func TestRung(t *testing.T) {
	end, refuse := api.Rung{Do: api.DoEnd}, api.Rung{Do: api.DoRefuse}
	for name, c := range map[string]struct {
		on         string
		says, want api.Rung
	}{
		"recording, nothing said":    {api.OnRecording, api.Rung{}, end},
		"recording goes on":          {api.OnRecording, refuse, end},
		"recording pauses":           {api.OnRecording, api.Rung{Do: api.DoPause, Seconds: 30}, api.Rung{Do: api.DoPause, Seconds: 30}},
		"a pause without an end":     {api.OnRecording, api.Rung{Do: api.DoPause}, api.Rung{Do: api.DoEnd}},
		"a pause of an hour":         {api.OnRecording, api.Rung{Do: api.DoPause, Seconds: 3600}, api.Rung{Do: api.DoEnd, Seconds: 3600}},
		"a verb of another time":     {api.OnDisk, api.Rung{Do: "continue"}, end},
		"broker, nothing said":       {api.OnBroker, api.Rung{}, refuse},
		"broker ends":                {api.OnBroker, end, end},
		"disk, nothing said":         {api.OnDisk, api.Rung{}, refuse},
		"storage, nothing said":      {api.OnStorage, api.Rung{}, refuse},
		"something else that failed": {"moon", refuse, end},
	} {
		t.Run(name, func(t *testing.T) {
			s := &session{}
			for on, to := range map[string]*api.Rung{api.OnRecording: &s.hop.Ladder.Recording, api.OnBroker: &s.hop.Ladder.Broker, api.OnDisk: &s.hop.Ladder.Disk, api.OnStorage: &s.hop.Ladder.Storage} {
				if on == c.on {
					*to = c.says
				}
			}
			if diff := cmp.Diff(c.want, s.rung(c.on)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for name, c := range map[string]struct {
		free uint64
		was  level
		want level
	}{
		"enough":                 {100, levelEnough, levelEnough},
		"one below the reserve":  {99, levelEnough, levelLow},
		"not yet above the mark": {124, levelLow, levelLow},
		"above the mark":         {125, levelLow, levelEnough},
		"at half":                {50, levelLow, levelLow},
		"one below half":         {49, levelLow, levelHalf},
		"not yet above half":     {61, levelHalf, levelHalf},
		"above half":             {62, levelHalf, levelLow},
		"from half to enough":    {125, levelHalf, levelEnough},
		"nothing":                {0, levelEnough, levelHalf},
	} {
		if got := levelOf(c.free, 100, c.was); got != c.want {
			t.Errorf("%s: level %d, want %d", name, got, c.want)
		}
	}
}

// TestFullScreen: however a switch to the alternate screen arrives, it is seen.
func TestFullScreen(t *testing.T) {
	for in, want := range map[string]bool{
		"": false, "text": false, "\x1b[?1049h": true, "a\x1b[?1049hvim\x1b[?1049lb": false, "\x1b[?47h": true, "\x1b[?1047h": true,
		"\x1b[?1049h\x1b[?25h": true, "\x1b[?1049l": false, "\x1b[?1049": false, "\x1b[?47h\x1b[?1049l": false, "\x1b[?1049l\x1b[?47h": true, "\x1b[?1049\x1b[?47h": true,
	} {
		for size := 1; size <= len(in)+1; size++ {
			var f fullScreen
			for rest := []byte(in); len(rest) > 0; {
				n := min(size, len(rest))
				f.see(rest[:n])
				rest = rest[n:]
			}
			if f.full() != want {
				t.Errorf("%q by %d: full %v, want %v", in, size, !want, want)
			}
		}
	}
}

// typist is a session over which single bytes go and come back.
type typist struct {
	t      testing.TB
	client *ssh.Client
	in     io.WriteCloser
	back   chan byte
	errs   lockedBuffer
}

func (w *world) typist(t testing.TB) *typist {
	t.Helper()
	p := &typist{t: t, client: w.direct(t), back: make(chan byte, 64)}
	s := newSession(t, p.client)
	var err error
	if p.in, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Stderr = &p.errs
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(p.back)
		for b := make([]byte, 1); ; {
			if n, err := out.Read(b); n == 0 || err != nil {
				return
			}
			p.back <- b[0]
		}
	})
	t.Cleanup(func() { _ = p.client.Close(); reading.Wait() })
	p.echoes('a')
	return p
}

func (p *typist) types(b byte) {
	p.t.Helper()
	if _, err := p.in.Write([]byte{b}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *typist) reads(b byte) {
	p.t.Helper()
	select {
	case got, ok := <-p.back:
		if !ok || got != b {
			p.t.Fatalf("read %q, %v, want %q; %s", got, ok, b, p.errs.String())
		}
	case <-time.After(patience):
		p.t.Fatalf("%q does not come back", b)
	}
}

func (p *typist) echoes(b byte) { p.t.Helper(); p.types(b); p.reads(b) }

// silent checks that keepalives are answered, and that nothing comes back while they are.
func (p *typist) silent() {
	p.t.Helper()
	for range 20 {
		if _, _, err := p.client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			p.t.Fatalf("keepalive: %v", err)
		}
		select {
		case b := <-p.back:
			p.t.Fatalf("%q came through a pause", b)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ladderWorld is a bastion of which all that a session rests on can fail.
type ladderWorld struct {
	*world
	free  atomic.Uint64
	full  atomic.Bool // of the spool's disk
	split atomic.Bool // a write that finds no room writes its first bytes
	store *brokenStore
}

type fullFile struct {
	SpoolFile
	w *ladderWorld
}

func (f fullFile) Write(p []byte) (int, error) {
	if !f.w.full.Load() {
		return f.SpoolFile.Write(p)
	}
	n := 0
	if f.w.split.Swap(false) {
		n, _ = f.SpoolFile.Write(p[:min(len(p), 3)])
	}
	return n, syscall.ENOSPC
}

func startLadder(t *testing.T, f *fakeControl, l api.Ladder, change ...func(*Config)) *ladderWorld {
	t.Helper()
	f.onHop = func(h *api.Hop) error { h.Ladder = l; return nil }
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := &ladderWorld{}
	w.free.Store(1000)
	w.world = start(t, f, append([]func(*Config){func(c *Config) {
		c.Spool = func(s SpoolFile) SpoolFile { return fullFile{s, w} }
		c.Reserve, c.Measure = 100, func() (room, error) { return room{w.free.Load(), 1000}, nil }
		c.UploadEvery, c.StoragePatience = 50*time.Millisecond, 100*time.Millisecond
		w.store = &brokenStore{Store: c.Bucket}
		c.Bucket = w.store
	}}, change...)...)
	return w
}

// fails are the four things that may fail, and how they are mended.
func (w *ladderWorld) fails() map[string]func(bool) {
	return map[string]func(bool){
		api.OnRecording: func(bad bool) { w.split.Store(bad); w.full.Store(bad) },
		api.OnBroker:    func(bad bool) { w.control.set(func() { w.control.down = bad }) },
		api.OnDisk: func(bad bool) {
			w.free.Store(1000)
			if bad {
				w.free.Store(49)
			}
		},
		api.OnStorage: func(bad bool) { w.store.broken.Store(bad) },
	}
}

// typing is a ladderWorld with somebody at work in it.
func typing(t *testing.T, l api.Ladder, change ...func(*Config)) (*fakeControl, *ladderWorld, *typist) {
	t.Helper()
	f := newFakeControl(t)
	w := startLadder(t, f, l, change...)
	return f, w, w.typist(t)
}

// pauses is a ladder that pauses when something fails.
func pauses(on string, seconds int) api.Ladder {
	return ladderOf(on, api.Rung{Do: api.DoPause, Seconds: seconds})
}

func ladderOf(on string, r api.Rung) (l api.Ladder) {
	*map[string]*api.Rung{api.OnRecording: &l.Recording, api.OnBroker: &l.Broker, api.OnDisk: &l.Disk, api.OnStorage: &l.Storage}[on] = r
	return l
}

// TestPause: while what a session rests on has failed, nothing goes through, and afterwards
// everything does, recorded byte by byte.
func TestPause(t *testing.T) {
	for _, on := range []string{api.OnRecording, api.OnBroker, api.OnDisk, api.OnStorage} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			f, w, p := typing(t, pauses(on, 60))
			w.fails()[on](true)
			want := "abc"
			switch on {
			case api.OnRecording:
				p.types('b') // the disk is looked at by who writes
			case api.OnStorage:
				p.echoes('x') // and the bucket by what is to be uploaded
				want = "axbc"
			}
			eventually(t, "a pause", func() bool { return len(w.halted()) == 1 })
			if on != api.OnRecording {
				p.types('b')
			}
			p.silent()
			w.fails()[on](false)
			p.reads('b')
			p.echoes('c')
			_ = p.in.Close()
			for range p.back { // until the host has closed
			}
			_ = p.client.Close()
			eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
			var paused, resumed pauseDetail
			decode(t, f.only(t, kindPause).Details, &paused)
			decode(t, f.only(t, kindResume).Details, &resumed)
			if paused != (pauseDetail{On: on, Seconds: 60}) || resumed.On != on || resumed.Paused <= 0 {
				t.Errorf("reported %+v and %+v", paused, resumed)
			}
			id := f.only(t, kindStart).SessionID
			frames := w.frames(id)
			if in, out := stream(frames, recording.StreamIn), stream(frames, recording.StreamOut); in != want || out != want {
				t.Errorf("recorded %q and %q", in, out)
			}
			if strings.Contains(p.errs.String(), "paused") {
				t.Errorf("a session without a terminal read %q", p.errs.String())
			}
		})
	}
}

// halted lists what keeps the one session that lives.
func (w *ladderWorld) halted() []string {
	for _, l := range w.b.reg.matching(everybody) {
		if l.halted != nil {
			return l.halted()
		}
	}
	return nil
}

// TestPauseRunsOut: a pause that lasts too long ends the session, and the person reads why.
func TestPauseRunsOut(t *testing.T) {
	for _, on := range []string{api.OnRecording, api.OnBroker, api.OnDisk, api.OnStorage} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			f, w, p := typing(t, pauses(on, 1))
			w.fails()[on](true)
			p.types('b')
			eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
			w.fails()[on](false)
			end := f.only(t, kindEnd)
			if end.Outcome != "failure" || !strings.HasPrefix(end.Reason, failures[on].text+" for 1s") {
				t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
			}
			_ = p.client.Wait()
			if got := p.errs.String(); !strings.Contains(got, failures[on].text) {
				t.Errorf("the person read %q", got)
			}
			if on == api.OnRecording && len(p.back) != 0 {
				t.Errorf("%d bytes went through unrecorded", len(p.back))
			}
		})
	}
}

// TestLadderEnds: where the ladder says so, sessions end at once, before any lease.
func TestLadderEnds(t *testing.T) {
	for _, on := range []string{api.OnBroker, api.OnDisk, api.OnStorage} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			f, w, p := typing(t, ladderOf(on, api.Rung{Do: api.DoEnd}))
			w.fails()[on](true)
			_, _ = p.in.Write([]byte("b"))
			eventually(t, "the end", func() bool { return w.b.sessions() == 0 })
			w.fails()[on](false)
			if end := f.only(t, kindEnd); end.Outcome != "failure" || !strings.HasPrefix(end.Reason, failures[on].text) {
				t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
			}
		})
	}
}

// TestRevocationEndsAPause: a session that stands still is cut like any other, whatever it waits for.
func TestRevocationEndsAPause(t *testing.T) {
	for _, on := range []string{api.OnRecording, api.OnDisk, api.OnStorage} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			f, w, p := typing(t, pauses(on, 60))
			w.fails()[on](true)
			p.types('b')
			eventually(t, "a pause", func() bool { return len(w.halted()) == 1 })
			f.set(func() { // long before the pause is over
				f.revoked = append(f.revoked, api.Revocation{Index: 5, Issuer: issuer, Subject: subjectID, Reason: "raced"})
			})
			eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
			eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
			w.fails()[on](false)
			if end := f.only(t, kindEnd); end.Outcome != "revoked" {
				t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
			}
			if len(f.find(kindResume)) != 0 {
				t.Error("it went on")
			}
		})
	}
}

// TestRevocationInAPauseForTheBroker: what was revoked while the feed was lost is carried out before
// anything goes on.
func TestRevocationInAPauseForTheBroker(t *testing.T) {
	f, w, p := typing(t, pauses(api.OnBroker, 60))
	f.set(func() { f.down = true })
	eventually(t, "a pause", func() bool { return len(w.halted()) == 1 })
	p.types('b')
	f.set(func() {
		f.down, f.revoked = false, append(f.revoked, api.Revocation{Index: 5, LoginID: loginID})
	})
	eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
	_ = p.client.Wait()
	if end := f.only(t, kindEnd); end.Outcome != "revoked" || len(p.back) != 0 || len(f.find(kindResume)) != 0 {
		t.Errorf("ended by %q, %s, with %d bytes through", end.Reason, end.Outcome, len(p.back))
	}
}

// TestLeaseEndsAPause: no pause outlives the lease (I4).
func TestLeaseEndsAPause(t *testing.T) {
	f := newFakeControl(t)
	f.leaseMS = 500
	w := startLadder(t, f, pauses(api.OnBroker, 60))
	w.typist(t)
	f.set(func() { f.down = true })
	eventually(t, "the end", func() bool { return w.b.sessions() == 0 })
	f.set(func() { f.down = false })
	if end := f.only(t, kindEnd); end.Reason != leaseEnded().reason {
		t.Errorf("ended by %q", end.Reason)
	}
}

// TestNoSpaceIsNotWaitedForByDefault: without a ladder a write that finds no room ends the session.
func TestNoSpaceIsNotWaitedForByDefault(t *testing.T) {
	f, w, p := typing(t, api.Ladder{})
	w.full.Store(true)
	p.types('b')
	eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
	w.full.Store(false)
	if end := f.only(t, kindEnd); end.Outcome != "failure" || !strings.HasPrefix(end.Reason, recordingFailed().reason) {
		t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
	}
	if len(f.find(kindPause)) != 0 {
		t.Error("it was paused")
	}
}

// TestReserve: below the reserve nothing new opens and what lives goes on; each level is an event.
func TestReserve(t *testing.T) {
	f, w, p := typing(t, api.Ladder{})
	w.free.Store(99)
	var errs bytes.Buffer
	s := newSession(t, w.direct(t))
	s.Stderr = &errs
	if err := s.Run("true"); err == nil || !strings.Contains(errs.String(), errReserve.Error()) {
		t.Errorf("opened below the reserve: %v, %q", err, errs.String())
	}
	p.echoes('b')
	f.only(t, kindSpoolLow)
	w.free.Store(10)
	eventually(t, "a second level", func() bool { return len(f.find(kindSpoolLow)) == 2 })
	p.echoes('c')
	w.free.Store(1000)
	f.only(t, kindSpoolFree)
	if err := newSession(t, w.direct(t)).Start("x"); err != nil {
		t.Errorf("not opened although there is room again: %v", err)
	}
}

// TestUnmeasuredDisk: where the disk cannot be measured, nothing new opens, and nothing is ended.
func TestUnmeasuredDisk(t *testing.T) {
	d := &disk{measure: func() (room, error) { return room{}, errors.New("gone") }, reserve: 100}
	if err := d.open(); !errors.Is(err, errReserve) {
		t.Errorf("opened: %v", err)
	}
	if d.level != levelLow {
		t.Errorf("the level is %d", d.level)
	}
}

// TestSessionQuota: a recording that grows too large ends its session, and not a byte more goes through.
func TestSessionQuota(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"session": {func(c *Config) { c.SessionMax = 1 << 20 }, "its recording has reached the limit of 1 MiB for a session"},
		"person":  {func(c *Config) { c.PersonMax = 1 << 20 }, "your recordings that are not stored yet have reached the limit of 1 MiB on this bastion"},
	} {
		t.Run(name, func(t *testing.T) {
			f, w, p := typing(t, api.Ladder{}, c.change)
			var sending sync.WaitGroup
			sending.Go(func() {
				for block := make([]byte, 16<<10); ; {
					if _, err := p.in.Write(block); err != nil {
						return
					}
				}
			})
			go func() {
				for range p.back {
				}
			}()
			eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
			sending.Wait()
			end := f.only(t, kindEnd)
			var d endDetail
			decode(t, end.Details, &d)
			if end.Outcome != "failure" || end.Reason != c.want || d.In+d.Out > 1<<20 {
				t.Errorf("ended by %q, %s, with %d bytes through", end.Reason, end.Outcome, d.In+d.Out)
			}
			eventually(t, "a spool that is forgotten", func() bool {
				w.b.quotas.mu.Lock()
				defer w.b.quotas.mu.Unlock()
				return len(w.b.quotas.sessions) == 0 && len(w.b.quotas.people) == 0
			})
		})
	}
}

// TestPersonQuotaRefuses: who has no room left opens nothing, others do; what an earlier process has
// left counts.
func TestPersonQuotaRefuses(t *testing.T) {
	q := newQuotas(0, 100)
	ada, bob := owner{issuer, "ada"}, owner{issuer, "bob"}
	if err := q.add("ssh_a", ada, 60); err != nil {
		t.Fatal(err)
	}
	if err := q.add("ssh_b", ada, 40); err != nil || q.room(ada) == nil || q.room(bob) != nil {
		t.Errorf("at the limit: %v, room %v, others %v", err, q.room(ada), q.room(bob))
	}
	if err := q.add("ssh_b", ada, 1); err == nil {
		t.Error("one byte more was taken")
	}
	q.forget("ssh_a")
	q.forget("ssh_a")
	if err := q.room(ada); err != nil {
		t.Errorf("room was not given back: %v", err)
	}
}
