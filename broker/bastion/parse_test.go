package bastion

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
	"sega/sshca"
)

func TestParseUser(t *testing.T) {
	for user, want := range map[string]struct {
		r      route
		direct bool
		bad    bool
	}{
		"root%web-1":         {r: route{routeDirect, "root", "web-1"}, direct: true},
		"deploy+db.eu.test":  {r: route{routeDirect, "deploy", "db.eu.test"}, direct: true},
		"ada":                {},
		"":                   {},
		"ada@corp.test":      {},
		"%web-1":             {bad: true},
		"root%":              {bad: true},
		"root%web-1%web-2":   {bad: true},
		"root%web-1+x":       {bad: true},
		"root%WEB-1":         {bad: true},
		"root%*":             {bad: true},
		"root%web-1:22":      {bad: true},
		"Root%web-1":         {bad: true},
		"-oProxyCommand%web": {bad: true},
		"root%web-1\x00":     {bad: true},
	} {
		r, direct, err := parseUser(user)
		if r != want.r || direct != want.direct || (err != nil) != want.bad {
			t.Errorf("%q: %+v, %v, %v", user, r, direct, err)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	for _, seed := range []string{"root%web-1", "a+b", "ada", "a%b+c", "%", "root%web-1\n", "root%ẞ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, user string) {
		r, direct, err := parseUser(user)
		if !direct {
			if err == nil && strings.ContainsAny(user, separators) {
				t.Errorf("%q passes as an outer connection", user)
			}
			return
		}
		if back := r.login + user[len(r.login):len(r.login)+1] + r.host; back != user || err != nil {
			t.Errorf("%q comes back as %q, %v", user, back, err)
		}
		if sshca.CheckLogin(r.login) != nil || sshca.CheckHostName(r.host) != nil || strings.ContainsAny(r.login+r.host, separators) {
			t.Errorf("%q was accepted as %+v", user, r)
		}
	})
}

func FuzzParseJump(f *testing.F) {
	f.Add(ssh.Marshal(directTCPIP{"web-1", 22, "127.0.0.1", 50000}))
	f.Add(ssh.Marshal(directTCPIP{"WEB", 80, "", 0}))
	f.Add([]byte{0, 0, 0, 5, 'a'})
	f.Fuzz(func(t *testing.T, payload []byte) {
		host, err := parseJump(payload, []uint32{22})
		if err != nil {
			return
		}
		var d directTCPIP
		if err := ssh.Unmarshal(payload, &d); err != nil || d.Host != host || d.Port != 22 || sshca.CheckHostName(host) != nil {
			t.Errorf("%x: %q, %+v, %v", payload, host, d, err)
		}
		if !bytes.Equal(ssh.Marshal(d), payload) {
			t.Errorf("%x is not what %+v marshals to", payload, d)
		}
	})
}

func FuzzChannelRequests(f *testing.F) {
	f.Add("pty-req", ssh.Marshal(ptyRequest{"xterm", 80, 24, 0, 0, "\x00"}))
	f.Add("env", ssh.Marshal(envRequest{"LANG", "C"}))
	f.Add("exec", ssh.Marshal(nameRequest{"true"}))
	f.Add("shell", []byte{})
	f.Add("shell", []byte{0})
	f.Add("exit-status", ssh.Marshal(exitStatus{5}))
	f.Add("exit-signal", ssh.Marshal(exitSignal{"TERM", false, "", ""}))
	f.Add("exit-signal", ssh.Marshal(exitSignal{"SEGV", true, "message", "hidden"}))
	f.Add("pty-req", ssh.Marshal(ptyRequest{"xterm", 80, 24, 0xdead, 0xbeef, "hidden\xff"}))
	f.Add("window-change", ssh.Marshal(windowRequest{80, 24, 0xdead, 0xbeef}))
	f.Add("window-change", ssh.Marshal(windowRequest{80, 24, 0, 0}))
	f.Add("break", ssh.Marshal(breakRequest{0xdeadbeef}))
	f.Add("x11-req", []byte{})
	payloads := func(kind string) any {
		switch kind {
		case "pty-req":
			return &ptyRequest{}
		case "env":
			return &envRequest{}
		case "window-change":
			return &windowRequest{}
		case "break":
			return &breakRequest{}
		case "exec", "subsystem", "signal":
			return &nameRequest{}
		case "exit-status":
			return &exitStatus{}
		case "exit-signal":
			return &exitSignal{}
		}
		return &noPayload{}
	}
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		fromClient, client := parseClientRequest(kind, payload)
		fromHost, host := parseTargetRequest(kind, payload)
		if !client && !host {
			return
		}
		if client && !bytes.Equal(recordedPayload(t, kind, fromClient), fromClient.payload) || host && !bytes.Equal(recordedPayload(t, kind, fromHost), fromHost.payload) {
			t.Errorf("%q: %x goes on as more than its event says", kind, payload)
		}
		if client && host {
			t.Errorf("%q goes both ways", kind)
		}
		p := payloads(kind)
		if !parsePayload(payload, p) {
			t.Fatalf("%q was accepted with %x", kind, payload)
		}
		if _, none := p.(*noPayload); none {
			return // parsePayload has checked that there is none
		}
		back := ssh.Marshal(p)
		if kind == "exit-signal" && len(payload) == len(back) { // any non-zero byte is true (RFC 4251)
			at := 4 + len(p.(*exitSignal).Signal)
			back[at] = payload[at]
		}
		if !bytes.Equal(back, payload) {
			t.Errorf("%q: %x comes back as %x", kind, payload, back)
		}
	})
}

// recordedPayload makes a request anew from what a reviewer reads of it in the recording.
func recordedPayload(t *testing.T, kind string, r request) []byte {
	t.Helper()
	raw, err := json.Marshal(r.event)
	if err != nil {
		t.Fatal(err)
	}
	var e recording.Event
	decode(t, raw, &e)
	switch kind {
	case "pty-req":
		return append(ssh.Marshal(struct {
			Term       string
			Cols, Rows uint32
		}{e.Term, e.Cols, e.Rows}), e.Value...)
	case "window-change":
		if e.Value == "" {
			return ssh.Marshal(windowRequest{Cols: e.Cols, Rows: e.Rows})
		}
		return append(ssh.Marshal(pixels{e.Cols, e.Rows}), e.Value...)
	case "env":
		return ssh.Marshal(envRequest{e.Name, e.Value})
	case "break":
		millis, err := strconv.ParseUint(e.Value, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(breakRequest{uint32(millis)})
	case "signal":
		return ssh.Marshal(nameRequest{e.Signal})
	case "exec":
		return ssh.Marshal(nameRequest{e.Command})
	case "subsystem":
		return ssh.Marshal(nameRequest{e.Name})
	case "exit-status":
		return ssh.Marshal(exitStatus{e.Status})
	case "exit-signal":
		return ssh.Marshal(exitSignal{Signal: e.Signal, Core: e.Value == "core", Message: e.Reason})
	}
	return nil // shell, eow@openssh.com
}

// TestNamesThatHostsReadOtherwise: a stock sshd takes a name with a zero byte at its end for the name without, of
// which the bastion and policy would know nothing.
func TestNamesThatHostsReadOtherwise(t *testing.T) {
	for _, kind := range []string{"exec", "subsystem"} {
		if _, ok := parseClientRequest(kind, ssh.Marshal(nameRequest{"sftp\x00"})); ok {
			t.Errorf("%s goes on", kind)
		}
	}
	for kind, payload := range map[string]any{
		api.ChannelDirectTCP:       directTCPIP{"127.0.0.1\x00", 22, "127.0.0.1", 1},
		api.ChannelDirectSocket:    directSocket{Path: "/run/x\x00"},
		api.ChannelForwardedTCP:    directTCPIP{"db\x00", 5432, "127.0.0.1", 1},
		api.ChannelForwardedSocket: forwardedSocket{Path: "/run/x\x00"},
	} {
		if _, ok := parseForward(kind, ssh.Marshal(payload)); ok {
			t.Errorf("%s goes on", kind)
		}
	}
	for kind, payload := range map[string]any{
		api.ChannelListenTCP:    listenTCP{"localhost\x00", 8080},
		api.ChannelListenSocket: nameRequest{"/run/x\x00"},
	} {
		if _, ok := parseListen(kind, ssh.Marshal(payload)); ok {
			t.Errorf("%s goes on", kind)
		}
	}
}

// TestSFTPByAnotherName asks a stock sshd for its sftp subsystem so that the bastion would not follow it.
func TestSFTPByAnotherName(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	ch, reqs, err := w.direct(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(nameRequest{"sftp\x00"})); ok || err != nil {
		t.Errorf("started: %v, %v", ok, err)
	}
	if got := f.find(kindCommand); len(got) != 0 {
		t.Errorf("the broker was asked: %+v", got)
	}
}

// FuzzForwards reads openings of forwarded connections and requests to listen. What goes on is what the
// recording says, and nothing else.
func FuzzForwards(f *testing.F) {
	f.Add(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"db", 5432, "127.0.0.1", 50000}))
	f.Add(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"[::1]", 5432, "fe80::1%eth0", 65536}))
	f.Add(api.ChannelForwardedTCP, ssh.Marshal(directTCPIP{"", 0, "a:b", 1}))
	f.Add(api.ChannelDirectSocket, ssh.Marshal(directSocket{"/x", "hidden", 7}))
	f.Add(api.ChannelForwardedSocket, ssh.Marshal(forwardedSocket{"/x", "hidden"}))
	f.Add(api.ChannelX11, ssh.Marshal(x11Open{"::1", 6010}))
	f.Add(api.ChannelAgent, []byte{0})
	f.Add(api.ChannelListenTCP, ssh.Marshal(listenTCP{"*", 8080}))
	f.Add("cancel-streamlocal-forward@openssh.com", ssh.Marshal(nameRequest{"/x"}))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		if r, ok := parseListen(kind, payload); ok {
			back := ssh.Marshal(listenTCP{r.Host, r.Port})
			if r.Socket != "" {
				back = ssh.Marshal(nameRequest{r.Socket})
			}
			if !bytes.Equal(back, payload) || r.Port > maxPort {
				t.Errorf("%q: %x comes back as %x", kind, payload, back)
			}
		}
		fw, ok := parseForward(kind, payload)
		if !ok {
			return
		}
		raw, err := json.Marshal(recording.Event{Type: recording.EventOpen, Name: kind, Value: where(fw.ask), Origin: fw.origin})
		if err != nil {
			t.Fatal(err)
		}
		var e recording.Event
		decode(t, raw, &e)
		if got := recordedOpening(t, e); !bytes.Equal(got, fw.payload) {
			t.Errorf("%q: %x goes on, and the recording says %x", kind, fw.payload, got)
		}
		if _, ok := parseForward(kind, fw.payload); !ok {
			t.Errorf("%q: %x is not what it was made of", kind, fw.payload)
		}
	})
}

// recordedOpening makes the opening of a forwarded connection anew from what a reviewer reads of it.
func recordedOpening(t *testing.T, e recording.Event) []byte {
	t.Helper()
	split := func(place string) (string, uint32) {
		if place == "" {
			return "", 0
		}
		at := strings.LastIndexByte(place, ':')
		port, err := strconv.ParseUint(place[at+1:], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		host := place[:at]
		if inner := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); len(inner) == len(host)-2 && strings.ContainsAny(inner, ":%") {
			host = inner
		}
		return host, uint32(port)
	}
	host, port := split(e.Origin)
	switch e.Name {
	case api.ChannelDirectTCP, api.ChannelForwardedTCP:
		to, at := split(e.Value)
		return ssh.Marshal(directTCPIP{to, at, host, port})
	case api.ChannelDirectSocket:
		return ssh.Marshal(directSocket{Path: e.Value})
	case api.ChannelForwardedSocket:
		return ssh.Marshal(forwardedSocket{Path: e.Value})
	case api.ChannelX11:
		return ssh.Marshal(x11Open{host, port})
	}
	return nil
}

// FuzzWatch cuts what goes through a forward into pieces: a banner at its beginning is found wherever it
// is cut, and nothing is kept for long.
func FuzzWatch(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n"), byte(1), byte(3))
	f.Add([]byte("hello\nSSH-2.0-x"), byte(7), byte(2))
	f.Add(bytes.Repeat([]byte("x"), watchMost+100), byte(200), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, a, b byte) {
		var whole, cut watch
		want, _ := whole.saw(recording.StreamOut, data)
		pieces := data
		for i := 0; len(pieces) > 0; i++ {
			n := min(len(pieces), int([]byte{a, b}[i%2])+1)
			cut.saw(recording.StreamOut, pieces[:n])
			pieces = pieces[n:]
		}
		if got := cut.found(); got != want && !(want == opaqueSSH && got == opaqueSSH) && !(want == opaqueTLS && len(data) < 2) {
			t.Errorf("%q in pieces of %d and %d: %q, whole %q", data, a, b, got, want)
		}
		if len(cut.out.data) >= watchMost {
			t.Error("it keeps all of it")
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if !utf8.ValidString(got) || len(got) > maxText+16 {
			t.Errorf("%q becomes %q", s, got)
		}
		for _, r := range got {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
				t.Errorf("%q becomes %q", s, got)
			}
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"name":       func(c *Config) { c.Name = "*" },
		"listener":   func(c *Config) { c.Listener = nil },
		"broker":     func(c *Config) { c.Control = nil },
		"bucket":     func(c *Config) { c.Bucket = nil },
		"directory":  func(c *Config) { c.DataDir = "" },
		"banner":     func(c *Config) { c.Banner = "a\x1b[2J" },
		"long MOTD":  func(c *Config) { c.MOTD = strings.Repeat("x", maxLines+1) },
		"recipients": func(c *Config) { c.Recipients = c.Recipients[:1] },
	} {
		cfg, _, _ := testConfig(t, t.TempDir(), newFakeControl(t))
		listener := cfg.Listener
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("a bad %s was accepted", name)
		}
		_ = listener.Close()
	}
}

func TestAlgorithmsAreModern(t *testing.T) {
	c := algorithms()
	want := ssh.Config{KeyExchanges: []string{"mlkem768x25519-sha256", "curve25519-sha256"},
		Ciphers: []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"},
		MACs:    []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, a := range signatureAlgorithms() {
		if a == ssh.KeyAlgoRSA {
			t.Error("SHA-1 signatures are accepted")
		}
	}
}
