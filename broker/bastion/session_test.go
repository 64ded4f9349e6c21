package bastion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

func TestExitSignalPassesThrough(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	err := newSession(t, w.direct(t)).Run("echo before; kill -TERM $$")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Fatalf("got %v, want the signal TERM", err)
	}
}

// TestRequestsPassExactly has a host that lists what reaches it, byte for byte.
func TestRequestsPassExactly(t *testing.T) {
	type seen struct {
		Type      string
		WantReply bool
		Payload   string
	}
	got := make(chan []seen, 1)
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		var all []seen
		for r := range reqs {
			all = append(all, seen{r.Type, r.WantReply, string(r.Payload)})
			_ = r.Reply(r.Type != "env", nil)
			if r.Type == "signal" {
				_, _ = ch.Write([]byte("last words"))
				_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{"SEGV", true, "core dumped", "en"}))
				_ = ch.Close()
			}
		}
		got <- all
	})
	w := start(t, f)
	ch, reqs, err := w.direct(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := []seen{
		{"pty-req", true, string(ssh.Marshal(ptyRequest{"xterm", 80, 24, 640, 480, "\x35\x00\x00\x00\x01\x00"}))},
		{"env", true, string(ssh.Marshal(envRequest{"A", "b\xff"}))},
		{"shell", true, ""},
		{"window-change", false, string(ssh.Marshal(windowRequest{100, 50, 1, 2}))},
		{"break", true, string(ssh.Marshal(breakRequest{500}))},
		{"signal", false, string(ssh.Marshal(nameRequest{"INT"}))},
	}
	for _, r := range sent {
		ok, err := ch.SendRequest(r.Type, r.WantReply, []byte(r.Payload))
		if err != nil || ok != (r.WantReply && r.Type != "env") {
			t.Errorf("%s: answered %v, %v", r.Type, ok, err)
		}
	}
	out, err := io.ReadAll(ch)
	if err != nil || string(out) != "last words" {
		t.Errorf("read %q, %v", out, err)
	}
	var back []seen
	for r := range reqs {
		back = append(back, seen{r.Type, r.WantReply, string(r.Payload)})
	}
	if diff := cmp.Diff([]seen{{"exit-signal", false, string(ssh.Marshal(exitSignal{"SEGV", true, "core dumped", ""}))}}, back); diff != "" {
		t.Errorf("to the person (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sent, <-got); diff != "" {
		t.Errorf("to the host (-want +got):\n%s", diff)
	}
}

func TestEnvironmentAndEvents(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	o := w.openssh(t, f.credential(t))
	t.Setenv("SEGA_TEST_VALUE", "päss through")
	got := o.run(nil, currentLogin(t)+"%web-1@bastion", `printf %s "$SEGA_TEST_VALUE"`)
	if got != (result{"päss through", "", 0}) {
		t.Fatalf("got %+v", got)
	}
	end := f.only(t, kindEnd)
	want := []recording.Event{
		{Type: recording.EventOpen, Name: "session"},
		{Type: recording.EventEnv, Name: "SEGA_TEST_VALUE", Value: "päss through"},
		{Type: recording.EventExec, Command: `printf %s "$SEGA_TEST_VALUE"`},
		{Type: recording.EventExit},
		{Type: recording.EventClose},
	}
	seen := slices.DeleteFunc(events(t, w.frames(end.SessionID)), func(e recording.Event) bool { return e.Type == recording.EventEOF })
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("recorded events (-want +got):\n%s", diff)
	}
	var c api.ChannelRequest
	if err := json.Unmarshal(f.only(t, kindCommand).Details, &c); err != nil {
		t.Fatal(err)
	}
	asked := api.ChannelRequest{ID: c.ID, Time: c.Time, SessionID: end.SessionID, Channel: 1, Type: "exec", Command: `printf %s "$SEGA_TEST_VALUE"`}
	if diff := cmp.Diff(asked, c); diff != "" {
		t.Errorf("session.command (-want +got):\n%s", diff)
	}
}

// terminal runs ssh on a pseudo-terminal and collects what it shows.
type terminal struct {
	t    testing.TB
	file *os.File
	cmd  *exec.Cmd
	text chan string
	seen string
}

func (o *openssh) terminal(args ...string) *terminal {
	o.t.Helper()
	cmd := o.command(context.Background(), append([]string{"-tt"}, args...)...)
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 97})
	if err != nil {
		o.t.Fatal(err)
	}
	term := &terminal{t: o.t, file: file, cmd: cmd, text: make(chan string)}
	go func() {
		defer close(term.text)
		buf := make([]byte, 4096)
		for {
			n, err := file.Read(buf)
			if n > 0 {
				term.text <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	o.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = file.Close()
		for range term.text {
		}
		_ = cmd.Wait()
	})
	return term
}

// expect waits until the terminal shows text, and returns everything up to and with it.
func (m *terminal) expect(text string) string {
	m.t.Helper()
	timeout := time.After(patience)
	for {
		if i := strings.Index(m.seen, text); i >= 0 {
			got := m.seen[:i+len(text)]
			m.seen = m.seen[i+len(text):]
			return got
		}
		select {
		case s, ok := <-m.text:
			if !ok {
				m.t.Fatalf("terminal closed before %q; it shows %q", text, m.seen)
			}
			m.seen += s
		case <-timeout:
			m.t.Fatalf("terminal does not show %q but %q", text, m.seen)
		}
	}
}

func (m *terminal) typed(text string) {
	m.t.Helper()
	if _, err := m.file.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

func TestTerminalAndWindowChange(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	term := w.openssh(t, f.credential(t)).terminal(currentLogin(t) + "%web-1@bastion")
	term.expect(recordedLine)
	term.typed("stty size; echo en''d1\n")
	if got := term.expect("end1\r\n"); !strings.Contains(got, "31 97") {
		t.Errorf("size of the terminal: %q", got)
	}
	if err := pty.Setsize(term.file, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	term.typed("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo en''d2\n")
	term.expect("end2\r\n")
	term.typed("exit 3\n")
	_ = term.cmd.Wait()
	if code := term.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	frames := w.frames(f.only(t, kindEnd).SessionID)
	var sizes []recording.Event
	for _, e := range events(t, frames) {
		if e.Type == recording.EventPty || e.Type == recording.EventResize {
			e.Term, e.Value = "", "" // the modes of a terminal
			sizes = append(sizes, e)
		}
	}
	want := []recording.Event{{Type: recording.EventPty, Cols: 97, Rows: 31}, {Type: recording.EventResize, Cols: 120, Rows: 40}}
	if diff := cmp.Diff(want, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if in := stream(frames, recording.StreamIn); !strings.Contains(in, "exit 3\n") {
		t.Errorf("typed input %q", in)
	}
	if strings.Contains(stream(frames, recording.StreamOut), recordedLine) {
		t.Error("the bastion's own line counts as the host's output")
	}
}

func TestNoWordsInExecOutput(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	got := w.openssh(t, f.credential(t)).run(nil, currentLogin(t)+"%web-1@bastion", "true")
	if got != (result{}) {
		t.Errorf("got %+v", got)
	}
}

func TestControlMasterHasManyChannels(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	o := w.openssh(t, f.credential(t))
	host := currentLogin(t) + "%web-1@bastion"
	socket := filepath.Join(o.dir, "mux")
	master := o.command(context.Background(), "-M", "-S", socket, "-N", host)
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Process.Kill(); _ = master.Wait() })
	eventually(t, "a control socket", func() bool { _, err := os.Stat(socket); return err == nil })
	first := o.run(nil, "-S", socket, host, "echo one; exit 1")
	second := o.run([]byte("in"), "-S", socket, host, "cat; echo two >&2; exit 2")
	if diff := cmp.Diff([]result{{"one\n", "", 1}, {"in", "two\n", 2}}, []result{first, second}, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := o.run(nil, "-S", socket, "-O", "exit", host); got.code != 0 {
		t.Fatalf("closing the master: %+v", got)
	}
	end := f.only(t, kindEnd)
	channels := map[uint32]string{}
	for _, frame := range w.frames(end.SessionID) {
		if frame.Stream == recording.StreamOut {
			channels[frame.Channel] += string(frame.Data)
		}
	}
	if diff := cmp.Diff(map[uint32]string{1: "one\n", 2: "in"}, channels); diff != "" {
		t.Errorf("channels (-want +got):\n%s", diff)
	}
	var d endDetail
	if err := json.Unmarshal(end.Details, &d); err != nil {
		t.Fatal(err)
	}
	one, two := uint32(1), uint32(2)
	if diff := cmp.Diff([]exitDetail{{Channel: 1, Status: &one}, {Channel: 2, Status: &two}}, d.Exits); diff != "" {
		t.Errorf("exits (-want +got):\n%s", diff)
	}
}

func TestSFTP(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	o := w.openssh(t, f.credential(t))
	dir := t.TempDir()
	content := bytes.Repeat([]byte("not\x00text\xff"), 100_000)
	if err := os.WriteFile(filepath.Join(dir, "a"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "batch"), "put "+dir+"/a "+dir+"/b\nget "+dir+"/b "+dir+"/c\n")
	sftp := requireTool(t, "sftp")
	for name, host := range map[string][]string{
		"percent": {currentLogin(t) + "%web-1@bastion"}, "jump": {"-J", "bastion", currentLogin(t) + "@web-1"}} {
		args := append([]string{"-q", "-F", filepath.Join(o.dir, "config"), "-b", filepath.Join(dir, "batch")}, host...)
		if out, err := exec.Command(sftp, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		got, err := os.ReadFile(filepath.Join(dir, "c"))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
		_ = os.Remove(filepath.Join(dir, "c"))
	}
	for _, c := range f.find(kindCommand) {
		if !strings.Contains(string(c.Details), `"command":"sftp"`) {
			t.Errorf("session.command says %s", c.Details)
		}
	}
}
