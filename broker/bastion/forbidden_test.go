package bastion

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

// TestForbiddenForwardsAreNamed: an event says where a forward was to go that policy never permits, once for each place,
// bounded in size and number; the recording says it each time.
func TestForbiddenForwardsAreNamed(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	c := w.direct(t)
	long := strings.Repeat("x", 5000)
	asked := 0
	open := func(kind string, payload []byte) {
		t.Helper()
		asked++
		if ch, _, err := c.OpenChannel(kind, payload); err == nil {
			_ = ch.Close()
			t.Fatalf("%s was opened", kind)
		}
	}
	listen := func(kind string, payload []byte) {
		t.Helper()
		asked++
		if ok, _, err := c.SendRequest(kind, true, payload); ok || err != nil {
			t.Fatalf("%s: %v, %v", kind, ok, err)
		}
	}
	for range 3 {
		open(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"db.corp.example", 5432, "::1", 40000}))
	}
	open(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"\x1b[2Jdb\n", 1, "\u202e", 2}))
	open(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{long, 3, long, 4}))
	open(api.ChannelDirectSocket, ssh.Marshal(directSocket{Path: "/run/docker.sock"}))
	listen(api.ChannelListenTCP, ssh.Marshal(listenTCP{"0.0.0.0", 8080}))
	listen(api.ChannelListenSocket, ssh.Marshal(nameRequest{"/run/app.sock"}))
	open("tun@openssh.com", []byte("anything"))
	for port := range uint32(20) {
		open(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"scan", 100 + port, "::1", 5}))
	}
	_ = c.Close()
	end := f.only(t, kindEnd)

	cut := strings.Repeat("x", maxText) + "..."
	want := []forbiddenDetail{
		{Type: api.ChannelDirectTCP, Host: "db.corp.example", Port: 5432, Origin: "[::1]:40000"},
		{Type: api.ChannelDirectTCP, Host: `\u001b[2Jdb\u000a`, Port: 1, Origin: `\u202e:2`},
		{Type: api.ChannelDirectTCP, Host: cut, Port: 3, Origin: cut},
		{Type: api.ChannelDirectSocket, Socket: "/run/docker.sock"},
		{Type: api.ChannelListenTCP, Host: "0.0.0.0", Port: 8080},
		{Type: api.ChannelListenSocket, Socket: "/run/app.sock"},
		{Type: "tun@openssh.com"},
	}
	for port := range uint32(maxRefusedPlaces - 3) {
		want = append(want, forbiddenDetail{Type: api.ChannelDirectTCP, Host: "scan", Port: 100 + port, Origin: "[::1]:5"})
	}
	var got []forbiddenDetail
	for _, r := range f.find(kindForward) {
		var d forbiddenDetail
		decode(t, r.Details, &d)
		got = append(got, d)
	}
	byType := func(all []forbiddenDetail) map[string][]forbiddenDetail {
		out := map[string][]forbiddenDetail{}
		for _, d := range all {
			out[d.Type] = append(out[d.Type], d)
		}
		return out
	}
	if diff := cmp.Diff(byType(want), byType(got)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	recorded, named := 0, 0
	for _, e := range events(t, w.frames(end.SessionID)) {
		if e.Type == recording.EventRefuse {
			recorded++
		}
		if e.Type == recording.EventRefuse && e.Value == "db.corp.example:5432" && e.Origin == "[::1]:40000" {
			named++
		}
	}
	if recorded != asked || named != 3 {
		t.Errorf("the recording has %d of %d refusals, %d of 3 to the database", recorded, asked, named)
	}
}
