package bastion

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sega/audit/recording"
)

// TestNothingGoesPastTheRecording has both sides hide words where the recording used not to look.
func TestNothingGoesPastTheRecording(t *testing.T) {
	const hidden = "hidden words"
	f := newFakeControl(t)
	extra := make(chan string, 8)
	requests := make(chan *ssh.Request, 8)
	h := f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			requests <- r
			_ = r.Reply(true, nil)
			if r.Type == "exec" {
				_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{"TERM", true, "message", hidden}))
				_ = ch.Close()
			}
		}
	})
	h.offered = func(nc ssh.NewChannel) bool {
		extra <- string(nc.ExtraData())
		if len(extra) < 2 {
			return false
		}
		_ = nc.Reject(ssh.RejectionReason(0xdeadbeef), "no more\x1b[2J "+hidden)
		return true
	}
	w := start(t, f)
	c := w.direct(t)
	ch, reqs, err := c.OpenChannel("session", []byte(hidden))
	if err != nil {
		t.Fatal(err)
	}
	pty := ssh.Marshal(ptyRequest{"xterm", 80, 24, 0xdead, 0xbeef, hidden})
	if ok, err := ch.SendRequest("pty-req", true, pty); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ch.SendRequest("break", true, ssh.Marshal(breakRequest{0xdeadbeef})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"true"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	exit := <-reqs
	if want := ssh.Marshal(exitSignal{"TERM", true, "message", ""}); exit.Type != "exit-signal" || !cmp.Equal(want, exit.Payload) {
		t.Errorf("the person got %s %q", exit.Type, exit.Payload)
	}
	go ssh.DiscardRequests(reqs)
	_, _, err = c.OpenChannel("session", nil)
	refused, ok := err.(*ssh.OpenChannelError)
	if !ok || refused.Reason != ssh.ConnectionFailed || strings.Contains(refused.Message, "\x1b") {
		t.Errorf("a second channel: %v", err)
	}
	_ = c.Close()
	if got := <-extra; got != "" {
		t.Errorf("the host got %q with the channel", got)
	}
	if got := <-requests; got.Type != "pty-req" || !cmp.Equal(pty, got.Payload) {
		t.Errorf("the host got %s %q", got.Type, got.Payload)
	}
	var got []recording.Event
	for _, e := range events(t, w.frames(f.only(t, kindEnd).SessionID)) {
		switch e.Type {
		case recording.EventPty, recording.EventSignal, recording.EventExitSignal, recording.EventRefuse:
			got = append(got, e)
		}
	}
	rest := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 0xdead), 0xbeef)
	rest = append(binary.BigEndian.AppendUint32(rest, uint32(len(hidden))), hidden...)
	want := []recording.Event{
		{Type: recording.EventPty, Term: "xterm", Cols: 80, Rows: 24, Value: string(rest)},
		{Type: recording.EventSignal, Signal: "BREAK", Value: "3735928559"},
		{Type: recording.EventExitSignal, Signal: "TERM", Value: "core", Reason: "message"},
		{Type: recording.EventRefuse, Name: "session", Value: ssh.ConnectionFailed.String(), Reason: printable("no more\x1b[2J " + hidden)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
}

// TestAnswerComesBeforeTheEnd has programs end at once: that they have begun is said before the channel closes, and how
// they have ended is said between.
func TestAnswerComesBeforeTheEnd(t *testing.T) {
	const programs, atOnce = 600, 4
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			_ = r.Reply(true, nil)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{0}))
			_ = ch.Close()
		}
	})
	w := start(t, f)
	c := w.direct(t)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for range programs {
		g.Go(func() error {
			ch, reqs, err := c.OpenChannel("session", nil)
			if err != nil {
				return err
			}
			if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"true"})); !ok || err != nil {
				return fmt.Errorf("the answer is %v, %v", ok, err)
			}
			var got []string
			for r := range reqs {
				got = append(got, r.Type)
			}
			if !slices.Equal(got, []string{"exit-status"}) {
				return fmt.Errorf("said of the end: %q", got)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestProgramsAreBounded opens more session channels than a session may have, at a host that takes them all
// and closes none before the client has.
func TestProgramsAreBounded(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	c := w.direct(t)
	var first ssh.Channel
	for i := range maxPrograms {
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		go ssh.DiscardRequests(reqs)
		if i == 0 {
			first = ch
		}
	}
	if ch, _, err := c.OpenChannel("session", nil); err == nil || !strings.Contains(err.Error(), errManyPrograms.Error()) {
		t.Errorf("one more: %v, %v", ch, err)
	}
	_ = first.Close()
	eventually(t, "a free place", func() bool {
		_, reqs, err := c.OpenChannel("session", nil)
		if err == nil {
			go ssh.DiscardRequests(reqs)
		}
		return err == nil
	})
}
