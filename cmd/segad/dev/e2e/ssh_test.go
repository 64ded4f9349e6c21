//go:build linux

package e2e

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sega/broker/api"
	"sega/cmd/segad/dev/devtest"
)

// route is one way for a person to reach the host: argv of the client, before the command.
type route struct {
	name string
	argv []string
	is   string // how the log calls it
}

// routes are the ways that a person has, with the key in the agent or with files, which `sega ssh --renew --no-agent` keeps.
func routes(t *testing.T, p *devtest.Person) []route {
	t.Helper()
	dir := t.TempDir()
	conf := p.Sega("configure", "--ssh", "--print")
	expect(t, conf, 0)
	configured := write(t, filepath.Join(dir, "configured"), conf.Out)
	conf = p.Sega("configure", "--ssh", "--print", "--no-agent")
	expect(t, conf, 0)
	agentless := write(t, filepath.Join(dir, "agentless"), conf.Out)
	expect(t, p.Sega("ssh", "--renew", "--no-agent"), 0)
	addr, port, err := net.SplitHostPort(p.Bastion)
	if err != nil {
		t.Fatal(err)
	}
	// What somebody writes by hand who has key, certificate and the front CA. ssh hands -F, and no
	// -o, to the client of the jump.
	hand := write(t, filepath.Join(dir, "hand"), fmt.Sprintf(`IdentityFile %[1]s/ssh/id
CertificateFile %[1]s/ssh/id-cert.pub
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile %[1]s/ssh/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
Host %[2]s
    HostKeyAlias dev-bastion
`, p.Home, addr))
	login := p.Host.Login
	return []route{
		{"sega ssh", []string{"sega", "ssh", p.Host.Name, "--"}, "direct"},
		{"sega ssh as", []string{"sega", "ssh", login + "@" + p.Host.Name, "--"}, "direct"},
		{"configured", []string{"ssh", "-F", configured, p.Host.Name}, "jump"},
		{"jump by hand", []string{"ssh", "-F", hand, "-J", "anybody@" + p.Bastion, login + "@" + p.Host.Name}, "jump"},
		{"percent", []string{"ssh", "-F", hand, "-p", port, login + "%" + p.Host.Name + "@" + addr}, "direct"},
		{"plus", []string{"ssh", "-F", hand, "-p", port, login + "+" + p.Host.Name + "@" + addr}, "direct"},
		{"configured without agent", []string{"ssh", "-F", agentless, p.Host.Name}, "jump"},
	}
}

func (r route) run(p *devtest.Person, input, command string) devtest.Result {
	argv := append(append([]string{}, r.argv[1:]...), command)
	return p.RunInput(input, r.argv[0], argv...)
}

// ended waits until the session that ran a command has ended, and returns its ID.
func ended(t *testing.T, reviewer *devtest.Person, command string) string {
	t.Helper()
	var id string
	devtest.Eventually(t, patience, "no session.end for "+command, func() error {
		for _, e := range reviewer.Events("--kind", "session.command") {
			if field(e, "details.command") == command {
				id = field(e, "session_id")
			}
		}
		if id == "" || len(reviewer.Events("--kind", "session.end", "--session", id)) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	return id
}

// shownSession is `audit show --json`.
type shownSession struct {
	ID, Person, Host, Login, Route, Outcome, Recording string
	Started                                            time.Time
	Ended                                              *time.Time
	Commands                                           []struct{ Type, Command string }
	BytesIn                                            int64 `json:"bytes_in"`
	BytesOut                                           int64 `json:"bytes_out"`
	BytesErr                                           int64 `json:"bytes_err"`
}

func show(t *testing.T, reviewer *devtest.Person, id string) shownSession {
	t.Helper()
	var v shownSession
	r := reviewer.Sega("audit", "show", id, "--json")
	expect(t, r, 0)
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// testSSH runs the command by every route and looks at what a reviewer finds of it.
func testSSH(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	for i, r := range routes(t, p) {
		t.Run(r.name, func(t *testing.T) {
			command := fmt.Sprintf("echo out%d; echo err%d >&2; exit 5", i, i)
			out, errs := fmt.Sprintf("out%d\n", i), fmt.Sprintf("err%d\n", i)
			before := time.Now()
			got := r.run(p, "", command)
			if got.Code != 5 || got.Out != out || got.Err != errs {
				t.Errorf("exit %d, stdout %q, stderr %q; want 5, %q, %q", got.Code, got.Out, got.Err, out, errs)
			}
			id := ended(t, reviewer, command)
			played := reviewer.Sega("audit", "play", id, "--reason", "test")
			expect(t, played, 0)
			if !strings.Contains(played.Out, out) || !strings.Contains(played.Out, errs) {
				t.Errorf("the recording shows %q", played.Out)
			}
			v := show(t, reviewer, id)
			if v.ID != id || v.Person != alice || v.Host != e.Host.Name || v.Login != e.Host.Login || v.Route != r.is || v.Outcome != "success" || v.Recording != "complete" {
				t.Errorf("shown: %+v", v)
			}
			if len(v.Commands) != 1 || v.Commands[0].Type != "exec" || v.Commands[0].Command != command || v.BytesIn != 0 || v.BytesOut != int64(len(out)) || v.BytesErr != int64(len(errs)) {
				t.Errorf("shown: %+v", v)
			}
			if v.Ended == nil || v.Started.Before(before.Add(-time.Second)) || v.Ended.Before(v.Started) || v.Ended.After(time.Now()) {
				t.Errorf("from %v to %v", v.Started, v.Ended)
			}
			expect(t, reviewer.Sega("audit", "show", id), 0, alice, command+" (exit 5)", "complete", fmt.Sprintf("%d out", len(out)))
		})
	}
}

// testCopy sends bytes through by scp, sftp and cat, and wants every one back.
func testCopy(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	dir := t.TempDir()
	conf := p.Sega("configure", "--ssh", "--print")
	expect(t, conf, 0)
	config := write(t, filepath.Join(dir, "config"), conf.Out)
	content := make([]byte, 3<<20+17)
	rand.Read(content)
	local, there, back := write(t, filepath.Join(dir, "local"), string(content)), filepath.Join(dir, "there"), filepath.Join(dir, "back")
	batch := write(t, filepath.Join(dir, "batch"), fmt.Sprintf("put %s %s\nget %s %s\n", local, there, there, back))
	for name, steps := range map[string][][]string{
		"scp":      {{"scp", "-F", config, local, e.Host.Name + ":" + there}, {"scp", "-F", config, e.Host.Name + ":" + there, back}},
		"old scp":  {{"scp", "-O", "-F", config, local, e.Host.Name + ":" + there}, {"scp", "-O", "-F", config, e.Host.Name + ":" + there, back}},
		"sftp":     {{"sftp", "-F", config, "-b", batch, e.Host.Name}},
		"sega ssh": {{"sh", "-c", `sega ssh "$0" -- "cat > $2" <"$1" && sega ssh "$0" -- "cat $2" >"$3"`, e.Host.Name, local, there, back}},
	} {
		for _, f := range []string{there, back} {
			if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		for _, argv := range steps {
			expect(t, p.Run(argv[0], argv[1:]...), 0)
		}
		for _, f := range []string{there, back} {
			if got, err := os.ReadFile(f); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %s has %d bytes, not those that were sent (%v)", name, filepath.Base(f), len(got), err)
			}
		}
	}
	// The log says that files were moved.
	var commands []string
	for _, v := range p.Events("--kind", "session.command") {
		commands = append(commands, field(v, "details.type")+" "+field(v, "details.command"))
	}
	if !contains(commands, "subsystem sftp") || !contains(commands, "exec scp -t "+there) {
		t.Errorf("no sftp, or no scp, among %q", commands)
	}
	// And which: by scp and by sftp, each way. They come behind what they tell of.
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	for _, kind := range []string{"sftp.write", "sftp.read"} {
		devtest.Eventually(t, 10*time.Second, "two events "+kind, func() error {
			if n := moved(t, p, kind, there, digest); n != 2 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
	}
	expect(t, p.Sega("audit", "query", "kind:sftp.write", "--limit", "1"), 0, there+" 3145745 bytes sha256:"+digest)
	// stdin and stdout at once.
	big := make([]byte, 5<<20)
	rand.Read(big)
	if r := p.RunInput(string(big), "sega", "ssh", e.Host.Name, "--", "cat"); r.Code != 0 || r.Out != string(big) {
		t.Errorf("cat: exit %d, %d bytes of %d came back\n%s", r.Code, len(r.Out), len(big), r.Err)
	}
}

// moved counts the events of a kind for a file that went over whole.
func moved(t *testing.T, p *devtest.Person, kind, path, digest string) (n int) {
	t.Helper()
	for _, v := range p.Events("--kind", kind) {
		var d api.FileOperation
		raw, err := json.Marshal(v["details"])
		if err == nil {
			err = json.Unmarshal(raw, &d)
		}
		transfer := cmp.Or(d.Written, d.Read)
		if d.Path != path {
			continue
		}
		if n++; err != nil || transfer == nil || len(transfer.Runs) != 1 || transfer.Runs[0].SHA256 != digest || field(v, "outcome") != "success" {
			t.Errorf("%s: %v, %s", kind, err, raw)
		}
	}
	return n
}

// testTools uses what people build on ssh: shared connections, as ansible does, and git.
func testTools(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	dir, err := os.MkdirTemp("", "sega-mux-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conf := p.Sega("configure", "--ssh", "--print")
	expect(t, conf, 0)
	config := write(t, filepath.Join(dir, "config"), conf.Out)
	shared := []string{"-F", config, "-o", "ControlMaster=auto", "-o", "ControlPath=" + filepath.Join(dir, "%C"), "-o", "ControlPersist=yes"}
	for i, code := range []int{1, 0, 2} {
		command := fmt.Sprintf("echo shared %d; exit %d", i, code)
		expect(t, p.Run("ssh", append(shared, e.Host.Name, command)...), code, fmt.Sprintf("shared %d\n", i))
	}
	expect(t, p.Run("ssh", append(shared, "-O", "exit", e.Host.Name)...), 0)
	v := show(t, reviewer, ended(t, reviewer, "echo shared 2; exit 2"))
	if len(v.Commands) != 3 || v.Recording != "complete" || v.Commands[0].Command != "echo shared 0; exit 1" {
		t.Errorf("shown: %+v", v)
	}
	played := reviewer.Sega("audit", "play", v.ID, "--reason", "test")
	expect(t, played, 0, "shared 0\n", "shared 1\n", "shared 2\n")

	repository, clone := filepath.Join(dir, "repository"), filepath.Join(dir, "clone")
	expect(t, p.Run("git", "init", "-q", repository), 0)
	expect(t, p.Run("git", "-C", repository, "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "first"), 0)
	expect(t, p.Run("env", "GIT_SSH_COMMAND=ssh -F "+config, "git", "clone", "-q", e.Host.Name+":"+repository, clone), 0)
	expect(t, p.Run("git", "-C", clone, "log", "--format=%s"), 0, "first")
}

// testIdentity opens a recording with the right key alone; the broker's leave does not do.
func testIdentity(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo sealed words"), 0)
	id := ended(t, reviewer, "echo sealed words")
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	wrong := write(t, filepath.Join(t.TempDir(), "wrong"), stranger.String()+"\n")
	without := []string{"-u", "SEGA_AUDIT_IDENTITY", "sega", "audit", "play", id, "--reason", "test"}
	expect(t, reviewer.Run("env", append(without, "--identity", filepath.Join(e.Data, "reviewer.age"))...), 0, "sealed words")
	expect(t, reviewer.Run("env", append(without, "--identity", filepath.Join(e.Data, "offline-recovery.age"))...), 0, "sealed words")
	for name, r := range map[string]devtest.Result{
		"none": reviewer.Run("env", without...), "wrong": reviewer.Run("env", append(without, "--identity", wrong)...),
		"missing": reviewer.Run("env", append(without, "--identity", wrong+"-not")...), "no identity": reviewer.Run("env", append(without, "--identity", filepath.Join(e.Data, "ca.pem"))...),
	} {
		want := 1
		if name == "none" {
			want = 2
		}
		if r.Code != want || r.Out != "" || strings.Contains(r.Err, "sealed") || strings.Contains(r.Err, "AGE-SECRET-KEY") {
			t.Errorf("identity %s: exit %d, want %d\n%s%s", name, r.Code, want, r.Out, r.Err)
		}
	}
	// At rest the words are nowhere, neither in the bucket nor in the spool.
	expect(t, p.Run("grep", "-rqF", "sealed words", filepath.Join(e.Data, "recordings"), filepath.Join(e.Data, "bastion")), 1)
}

// testSignal ends the remote command by signals and odd codes, which bare ssh tells as well.
func testSignal(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	for _, tt := range []struct {
		command string
		code    int
	}{
		{"kill -9 $$ # one", 255}, {"kill -TERM $$ # two", 255}, // ssh(1): 255 where there is no exit status
		{"exit 255", 255}, {"exit 128", 128}, {"no-such-command-here", 127}, {"true", 0},
	} {
		if r := p.Sega("ssh", e.Host.Name, "--", tt.command); r.Code != tt.code {
			t.Errorf("%s: exit %d, want %d\n%s", tt.command, r.Code, tt.code, r.Err)
		}
	}
	id := ended(t, reviewer, "kill -9 $$ # one")
	played := show(t, reviewer, id)
	if played.Recording != "complete" || played.Outcome != "success" {
		t.Errorf("shown: %+v", played)
	}
}
