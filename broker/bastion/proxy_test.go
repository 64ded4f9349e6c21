package bastion

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"sega/audit/recording"
)

func TestExecInEveryForm(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	o := w.openssh(t, f.credential(t))
	for name, form := range forms(currentLogin(t)) {
		t.Run(name, func(t *testing.T) {
			got := o.run(nil, append(form, "echo out; echo err >&2; exit 5")...)
			if want := (result{"out\n", "err\n", 5}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	eventually(t, "three ends", func() bool { return len(f.find(kindEnd)) == 3 })
	for _, end := range f.find(kindEnd) {
		if end.Outcome != "success" || end.Source != "127.0.0.1" {
			t.Errorf("end: %+v", end)
		}
		frames := w.frames(end.SessionID)
		if out, errs := stream(frames, recording.StreamOut), stream(frames, recording.StreamErr); out != "out\n" || errs != "err\n" {
			t.Errorf("recorded %q and %q", out, errs)
		}
	}
}

func TestBinaryBothWays(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	o := w.openssh(t, f.credential(t))
	data := make([]byte, 3<<20)
	rand.Read(data)
	for name, form := range forms(currentLogin(t)) {
		got := o.run(data, append(form, "cat")...)
		if got.code != 0 || !bytes.Equal([]byte(got.stdout), data) {
			t.Errorf("%s: exit %d, %d bytes, stderr %q", name, got.code, len(got.stdout), got.stderr)
		}
	}
	for _, start := range f.find(kindStart) {
		frames := w.frames(start.SessionID)
		for _, s := range []recording.Stream{recording.StreamIn, recording.StreamOut} {
			if stream(frames, s) != string(data) {
				t.Errorf("%s: stream %s is not what went through", start.SessionID, s)
			}
		}
	}
	if strings.Contains(string(data), "\x00\x00\x00\x00\x00\x00\x00\x00") {
		t.Log("data had a run of zeroes")
	}
}
