package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

const channelPolicies = `
@id("hosts") permit (principal in Group::"engineering", action == Action::"connect", resource);
@id("no-rm") @reason("nothing is removed here")
forbid (principal, action == Action::"connect", resource) when { context.channel == "exec" && context.command like "rm *" };
@id("no-rsh") forbid (principal, action == Action::"connect", resource) when { context.channel == "subsystem" && context.command == "netconf" };
@id("databases") permit (principal in Group::"engineering", action == Action::"forward", resource)
when { context.direction == "local" && (context.port == 5432 || context.port == 22) };
@id("sockets") permit (principal, action == Action::"forward", resource) when { context.socket == "/run/app.sock" };
@id("inside") permit (principal, action == Action::"forwardOpaque", resource) when { context.host == "vpn.corp.example" };
@id("agents") permit (principal, action == Action::"forwardAgent", resource) when { context.login == "deploy" };
@id("cards") permit (principal, action == Action::"omitContent", resource) when { context.channel == "sftp" };
`

// channelWorld is a broker with a live session ssh_live of alice on web-1, and its bastion.
func channelWorld(t testing.TB, policies string, change ...func(*Config)) (w *world, alice, bastion caller) {
	w = newWorld(t, append(change, func(c *Config) {
		c.Hosts = append(c.Hosts, Host{Name: "db-1", ID: "host-db-1", Address: "db-1.internal:2222", Logins: []string{"deploy"}})
	})...)
	w.mu.Lock()
	w.policy = fstest.MapFS{"p.cedar": {Data: []byte(policies)}}
	w.mu.Unlock()
	if err := w.config.Policy.Reload(); err != nil {
		t.Fatal(err)
	}
	alice = w.login()
	bastion = w.bastionNamed("bastion-1")
	w.liveSSH("ssh_live", alice, state.SSHLive)
	return w, alice, bastion
}

func (w *world) bastionNamed(name string) caller {
	w.t.Helper()
	p := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_"+name, name
	})
	return p
}

func (w *world) liveSSH(id string, p caller, as string) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx store.Tx) error {
		err := state.AddSSH(ctx, tx, state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: p.session.ID, Issuer: p.session.Issuer, Subject: p.session.Subject, Epoch: p.session.Epoch, Rev: p.session.Rev},
			Email: p.session.Email, Host: "web-1", Login: "deploy", Node: "bastion-1", Source: "192.0.2.50", Started: w.clock.now(), NotAfter: w.clock.now().Add(30 * time.Minute)})
		return errors.Join(err, state.SetSSHState(ctx, tx, id, as))
	})
}

func asking(change func(*api.ChannelRequest)) api.ChannelRequest {
	r := api.ChannelRequest{ID: audit.NewID(), SessionID: "ssh_live", Channel: 1, Type: api.ChannelShell}
	if change != nil {
		change(&r)
	}
	return r
}

// ask returns the answer to a question, and the last event of the log.
func (p caller) ask(r api.ChannelRequest) (api.ChannelGrant, audit.Event) {
	p.w.t.Helper()
	rec := p.do("POST", api.RouteChannel, r)
	if rec.Code != 200 {
		p.w.t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	var g api.ChannelGrant
	if err := json.Unmarshal(rec.Body.Bytes(), &g); err != nil {
		p.w.t.Fatal(err)
	}
	all := p.w.events()
	return g, all[len(all)-1]
}

func forward(kind, host string, port uint32) func(*api.ChannelRequest) {
	return func(r *api.ChannelRequest) { r.Type, r.Host, r.Port = kind, host, port }
}

func TestChannelDecisions(t *testing.T) {
	_, _, bastion := channelWorld(t, channelPolicies)
	exec := func(command string) func(*api.ChannelRequest) {
		return func(r *api.ChannelRequest) { r.Type, r.Command = api.ChannelExec, command }
	}
	for name, tc := range map[string]struct {
		change func(*api.ChannelRequest)
		want   api.ChannelGrant // without Event; Reason is a part
		kind   string
		ids    []string
	}{
		"a shell":            {nil, api.ChannelGrant{Allow: true}, "session.command", []string{"hosts"}},
		"a command":          {exec("ls"), api.ChannelGrant{Allow: true}, "session.command", []string{"hosts"}},
		"one that is forbid": {exec("rm -rf /"), api.ChannelGrant{Reason: "nothing is removed here"}, "session.command", []string{"no-rm"}},
		"a subsystem": {func(r *api.ChannelRequest) { r.Type, r.Command = api.ChannelSubsystem, "netconf" },
			api.ChannelGrant{Reason: "no-rsh"}, "session.command", []string{"no-rsh"}},
		"sftp": {func(r *api.ChannelRequest) { r.Type, r.Command = api.ChannelSubsystem, "sftp" },
			api.ChannelGrant{Allow: true, OmitContent: true}, "session.command", []string{"hosts"}},
		"a database":     {forward(api.ChannelDirectTCP, "DB.corp.example.", 5432), api.ChannelGrant{Allow: true}, "forward.open", []string{"hosts", "databases"}},
		"another port":   {forward(api.ChannelDirectTCP, "db.corp.example", 5433), api.ChannelGrant{Reason: "no policy permits forward"}, "forward.open", []string{}},
		"opaque":         {forward(api.ChannelDirectTCP, "vpn.corp.example", 22), api.ChannelGrant{Allow: true, Opaque: true}, "forward.open", []string{"hosts", "databases"}},
		"own sshd":       {forward(api.ChannelDirectTCP, "127.1", 22), api.ChannelGrant{Reason: "sshd"}, "forward.open", []string{}},
		"another's sshd": {forward(api.ChannelDirectTCP, "db-1", 2222), api.ChannelGrant{Reason: "sshd"}, "forward.open", []string{}},
		"a remote port":  {forward(api.ChannelListenTCP, "", 5432), api.ChannelGrant{Reason: "no policy permits forward"}, "forward.open", []string{}},
		"a socket":       {func(r *api.ChannelRequest) { r.Type, r.Socket = api.ChannelDirectSocket, "/run/app.sock" }, api.ChannelGrant{Allow: true}, "forward.open", []string{"hosts", "sockets"}},
		"another socket": {func(r *api.ChannelRequest) { r.Type, r.Socket = api.ChannelDirectSocket, "/run/docker.sock" }, api.ChannelGrant{Reason: "no policy permits"}, "forward.open", []string{}},
		"the agent":      {func(r *api.ChannelRequest) { r.Type = api.ChannelAgentRequest }, api.ChannelGrant{Allow: true}, "forward.open", []string{"hosts", "agents"}},
		"one use of it":  {func(r *api.ChannelRequest) { r.Type = api.ChannelAgent }, api.ChannelGrant{Allow: true}, "forward.open", []string{"hosts", "agents"}},
		"the display":    {func(r *api.ChannelRequest) { r.Type = api.ChannelX11Request }, api.ChannelGrant{Reason: "no policy permits forwardX11"}, "forward.open", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, event := bastion.ask(asking(tc.change))
			if !strings.Contains(got.Reason, tc.want.Reason) || got.Event != event.ID {
				t.Errorf("got %+v, event %s", got, event.ID)
			}
			got.Reason, got.Hint, got.Event, tc.want.Reason = "", "", "", ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			outcome := audit.Denied
			if got.Allow {
				outcome = audit.Success
			}
			if event.Kind != tc.kind || event.Outcome != outcome || event.Resource != "host/web-1" || event.SessionID != "ssh_live" || event.Actor.Sub != "alice" || event.Node != "bastion-1" || event.Source != "192.0.2.50" {
				t.Errorf("event %+v", event)
			}
			if diff := cmp.Diff(tc.ids, event.PolicyIDs); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(event.Reason+event.Resource, "rm -rf") {
				t.Error("the envelope holds what was typed")
			}
		})
	}
}

// TestChannelAsksAnew: policy, the person's session and the bastion's count as they stand when the
// channel is asked for (R4).
func TestChannelAsksAnew(t *testing.T) {
	for name, change := range map[string]struct {
		act  func(w *world, alice, bastion caller)
		kind api.Kind // "" for an answer that denies
	}{
		"policy has changed": {func(w *world, _, _ caller) {
			w.mu.Lock()
			w.policy = fstest.MapFS{"p.cedar": {Data: []byte(`@id("none") forbid (principal, action, resource);`)}}
			w.mu.Unlock()
			if err := w.config.Policy.Reload(); err != nil {
				w.t.Fatal(err)
			}
		}, ""},
		"the person is revoked": {func(w *world, _, _ caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
			})
		}, api.KindRevoked},
		"the login has ended": {func(w *world, alice, _ caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, alice.session.ID, state.EndedRevoked, w.clock.now())
			})
		}, api.KindRevoked},
		"the SSH session is revoked": {func(w *world, _, _ caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.AddRevocation(ctx, tx, state.Revocation{Index: 7, EventID: "e", SessionID: "ssh_live", At: w.clock.now()})
			})
		}, api.KindRevoked},
		"the session has ended": {func(w *world, _, _ caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.SetSSHState(ctx, tx, "ssh_live", state.SSHEnded)
			})
		}, ""},
		"its time is up":   {func(w *world, _, _ caller) { w.clock.add(31 * time.Minute) }, ""},
		"the host is gone": {func(w *world, _, _ caller) { w.s.Hosts = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, alice, bastion := channelWorld(t, channelPolicies)
			if got, _ := bastion.ask(asking(nil)); !got.Allow {
				t.Fatalf("before: %+v", got)
			}
			change.act(w, alice, bastion)
			before := len(w.events())
			rec := bastion.do("POST", api.RouteChannel, asking(nil))
			if change.kind != "" {
				if p := problemOf(t, rec); p.Kind != change.kind {
					t.Errorf("got %+v", p)
				}
			} else if strings.Contains(rec.Body.String(), `"allow":true`) || rec.Code != 200 {
				t.Errorf("got %d %s", rec.Code, rec.Body)
			}
			all := w.events()
			if last := all[len(all)-1]; len(all) != before+1 || last.Kind != "session.command" || last.Outcome == audit.Success {
				t.Errorf("%d events, the last %+v", len(all)-before, last)
			}
		})
	}
}

// TestChannelIsAskedOnce repeats questions: one event each, and another question gets no answer of a first.
func TestChannelIsAskedOnce(t *testing.T) {
	w, _, bastion := channelWorld(t, channelPolicies)
	for _, r := range []api.ChannelRequest{asking(nil), asking(forward(api.ChannelDirectTCP, "x", 1))} {
		first, _ := bastion.ask(r)
		n := len(w.events())
		again, _ := bastion.ask(r)
		if diff := cmp.Diff(first, again); diff != "" || len(w.events()) != n {
			t.Errorf("%d more events, %s", len(w.events())-n, diff)
		}
		r.Type, r.Host, r.Port, r.Command = api.ChannelExec, "", 0, "id"
		if p := problemOf(t, bastion.do("POST", api.RouteChannel, r)); p.Kind != api.KindConflict {
			t.Errorf("another question: %+v", p)
		}
	}
	r := asking(nil)
	bastion.ask(r)
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
	})
	if p := problemOf(t, bastion.do("POST", api.RouteChannel, r)); p.Kind != api.KindRevoked {
		t.Errorf("a yes from before the revocation: %+v", p)
	}
}

// TestChannelIsDurableFirst lets the log fail: no answer leaves (I1).
func TestChannelIsDurableFirst(t *testing.T) {
	w, _, bastion := channelWorld(t, channelPolicies)
	w.log.on(func([]audit.Event) error { return errDisk })
	rec := bastion.do("POST", api.RouteChannel, asking(nil))
	if p := problemOf(t, rec); p.Kind != api.KindUnavailable || strings.Contains(rec.Body.String(), "allow") {
		t.Errorf("got %+v", p)
	}
}

// TestChannelRequests has a bastion ask what none does.
func TestChannelRequests(t *testing.T) {
	w, alice, bastion := channelWorld(t, channelPolicies)
	other := w.bastionNamed("bastion-2")
	for name, tc := range map[string]struct {
		who    caller
		change func(*api.ChannelRequest)
		kind   api.Kind
	}{
		"a person":              {alice, nil, api.KindDenied},
		"another bastion":       {other, nil, api.KindNotFound},
		"no such session":       {bastion, func(r *api.ChannelRequest) { r.SessionID = "ssh_none" }, api.KindNotFound},
		"no session":            {bastion, func(r *api.ChannelRequest) { r.SessionID = "" }, api.KindInvalid},
		"no ID":                 {bastion, func(r *api.ChannelRequest) { r.ID = "" }, api.KindInvalid},
		"a long ID":             {bastion, func(r *api.ChannelRequest) { r.ID = strings.Repeat("x", 65) }, api.KindInvalid},
		"no type":               {bastion, func(r *api.ChannelRequest) { r.Type = "" }, api.KindInvalid},
		"an unknown type":       {bastion, func(r *api.ChannelRequest) { r.Type = "tun@openssh.com" }, api.KindInvalid},
		"a shell with a port":   {bastion, func(r *api.ChannelRequest) { r.Port = 22 }, api.KindInvalid},
		"a forward to nowhere":  {bastion, forward(api.ChannelDirectTCP, "", 0), api.KindInvalid},
		"without a port":        {bastion, forward(api.ChannelDirectTCP, "db", 0), api.KindInvalid},
		"a port that is none":   {bastion, forward(api.ChannelDirectTCP, "db", 65536), api.KindInvalid},
		"a forward to both":     {bastion, func(r *api.ChannelRequest) { r.Type, r.Host, r.Port, r.Socket = api.ChannelDirectTCP, "db", 1, "/x" }, api.KindInvalid},
		"a socket with a port":  {bastion, func(r *api.ChannelRequest) { r.Type, r.Port, r.Socket = api.ChannelDirectSocket, 1, "/x" }, api.KindInvalid},
		"a socket without path": {bastion, func(r *api.ChannelRequest) { r.Type = api.ChannelListenSocket }, api.KindInvalid},
		"a long host":           {bastion, forward(api.ChannelDirectTCP, strings.Repeat("x", 1025), 1), api.KindInvalid},
		"an agent's command":    {bastion, func(r *api.ChannelRequest) { r.Type, r.Command = api.ChannelAgentRequest, "x" }, api.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			p := problemOf(t, tc.who.do("POST", api.RouteChannel, asking(tc.change)))
			if p.Kind != tc.kind {
				t.Errorf("got %+v", p)
			}
			all := w.events()
			if last := all[len(all)-1]; last.Kind != "request.refuse" {
				t.Errorf("event %+v", last)
			}
		})
	}
}

// TestForwardsToSSH: every way to write a host's sshd is refused.
func TestForwardsToSSH(t *testing.T) {
	w, _, _ := channelWorld(t, channelPolicies)
	w.s.Hosts = append(w.s.Hosts, Host{Name: "v6", ID: "host-v6", Address: "[2001:db8::7]:22"})
	host, _ := w.s.host("web-1")
	for _, tc := range []struct {
		host string
		port uint32
		ssh  bool
	}{
		{"localhost", 22, true}, {"LOCALHOST.", 22, true}, {"localhost.localdomain", 22, true}, {"a.localhost", 22, true}, {"ip6-localhost", 22, true}, {"ip6-loopback", 22, true},
		{"127.0.0.1", 22, true}, {"127.0.0.1.", 22, true}, {"127.9.9.9", 22, true}, {"127.1", 22, true}, {"2130706433", 22, true}, {"0x7f000001", 22, true}, {"0x7F.1", 22, true},
		{"0177.0.0.1", 22, true}, {"017700000001", 22, true}, {"0", 22, true}, {"0.0.0.0", 22, true}, {"0.0.0.9", 22, true}, {"::", 22, true}, {"::1", 22, true}, {"[::1]", 22, true},
		{"0:0:0:0:0:0:0:1", 22, true}, {"::1%lo", 22, true}, {"::ffff:127.0.0.1", 22, true}, {"::ffff:7f00:1", 22, true}, {"fe80::1%eth0", 22, true}, {" localhost", 22, true},
		{"web-1", 22, true}, {"WEB-1", 22, true}, {"web-1.", 22, true}, {"web-1.corp.example", 22, true}, {"host-1", 22, true}, {"192.0.2.1", 22, true}, {"::ffff:192.0.2.1", 22, true}, {"3221225985", 22, true}, {"192.0.513", 22, true},
		{"db-1", 22, true}, {"db-1", 2222, true}, {"db-1.internal", 2222, true}, {"db-1.internal.", 22, true}, {"host-db-1", 2222, true}, {"db-1.corp.example", 22, true},
		{"2001:db8::7", 22, true}, {"2001:DB8:0:0::7", 22, true},
		{"localhost", 5432, false}, {"127.0.0.1", 2222, false}, {"web-1", 443, false}, {"192.0.2.2", 22, false}, {"web-2", 22, false}, {"2130706433x", 22, false}, {"1.2.3.4.5", 22, false},
	} {
		if got := w.s.isSSH(canonicalHost(tc.host), tc.port, host); got != tc.ssh {
			t.Errorf("%q port %d (%q): %v", tc.host, tc.port, canonicalHost(tc.host), got)
		}
	}
}

// TestForwardsToBlanks: what stands behind a blank does not hide an address from policy.
func TestForwardsToBlanks(t *testing.T) {
	w, _, _ := channelWorld(t, channelPolicies)
	host, _ := w.s.host("web-1")
	for name, refused := range map[string]bool{"127.0.0.1 x": true, "127.0.0.1\tx": true, "10.0.0.1\nx": true, "a\x00b": true, "a\x7f": true, " db": false, "db": false, "": false, "*": false} {
		for _, kind := range []string{api.ChannelDirectTCP, api.ChannelListenTCP} {
			if _, problem := w.s.forwardOf(api.ChannelRequest{Type: kind, Host: name, Port: 5432}, host); (problem != nil) != refused {
				t.Errorf("%s to %q: %v", kind, name, problem)
			}
		}
	}
}

// FuzzCanonicalHost: the form is stable, and no spelling of the loopback that the standard library reads
// gets past.
func FuzzCanonicalHost(f *testing.F) {
	for _, seed := range []string{"", "127.1", "0x7f.1", "[::1%lo]", "a..", "2130706433", "٣.1", "0x", "08"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := canonicalHost(s)
		if once != canonicalHost(once) && !strings.ContainsAny(s, "[] .\t\n\v\f\r") {
			t.Errorf("%q becomes %q, and then %q", s, once, canonicalHost(once))
		}
		if !ownLoopback(canonicalHost("127.0.0.1" + strings.Repeat(".", len(s)%3))) {
			t.Error("a loopback is none")
		}
	})
}

// TestPossibleForwards: a hop says what policy may permit, and not what it never does.
func TestPossibleForwards(t *testing.T) {
	w, alice, _ := channelWorld(t, channelPolicies)
	host, _ := w.s.host("web-1")
	got := w.s.forwardsOf(alice.session, host, policy.Context{Login: "deploy"})
	if diff := cmp.Diff(api.HopForwards{Ports: true, Agent: true}, got); diff != "" {
		t.Error(diff)
	}
}
