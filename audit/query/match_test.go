package query

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
)

// sample is an event in which every field differs from every other.
func sample() audit.Event {
	return audit.Event{V: 1, ID: "id-1", Time: noon.UTC(), Kind: audit.KindSessionCommand, Outcome: audit.Success,
		Actor:   audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.example", Sub: "00ualice", Email: "alice@example.com"},
		LoginID: "ses_1", SessionID: "ssh_1", Action: "act_1", Resource: "host/web-1", Reason: "The Outage", Ticket: "OPS-7",
		PolicyIDs: []string{"engineers", "oncall"}, Source: "192.0.2.1", Node: "bastion-1", Details: []byte(`{"command":"rm -rf /Srv/data","channel":0}`)}
}

func with(f func(*audit.Event)) audit.Event {
	e := sample()
	f(&e)
	return e
}

func TestMatch(t *testing.T) {
	role := with(func(e *audit.Event) { e.Kind, e.Resource = audit.KindAWSAssume, "role/prod-admin" })
	sftp := with(func(e *audit.Event) {
		e.Kind, e.Details = audit.KindSFTPRename, []byte(`{"path":"/etc/passwd","to":"/tmp/p"}`)
	})
	raw := with(func(e *audit.Event) { e.Details = []byte(`{"command":"x","raw":"Y2F0IP9maWxl"}`) })
	bare := audit.Event{Kind: "log.recovery"}
	for _, c := range []struct {
		name string
		x    Expr
		e    audit.Event
		want bool
	}{
		{"nothing asked", And{}, sample(), true},
		{"nothing in or", Or{}, sample(), false},
		{"and of both", And{eq(Kind, audit.KindSessionCommand), eq(User, "00ualice")}, sample(), true},
		{"and of one", And{eq(Kind, audit.KindSessionCommand), eq(User, "bob")}, sample(), false},
		{"or of one", Or{eq(Kind, "x"), eq(User, "00ualice")}, sample(), true},
		{"or of none", Or{eq(Kind, "x"), eq(User, "bob")}, sample(), false},
		{"not", Not{eq(User, "bob")}, sample(), true},
		{"not what is", Not{eq(User, "00ualice")}, sample(), false},
		{"user by e-mail", eq(User, "alice@example.com"), sample(), true},
		{"user by part of it", eq(User, "alice"), sample(), false},
		{"user in another case", eq(User, "Alice@example.com"), sample(), false},
		{"user by prefix", Field{User, Prefix, "alice@"}, sample(), true},
		{"user by prefix of sub", Field{User, Prefix, "00u"}, sample(), true},
		{"user by what it contains", Field{User, Contains, "EXAMPLE"}, sample(), true},
		{"not the issuer", Field{User, Contains, "idp"}, sample(), false},
		{"kind", eq(Kind, "session.command"), sample(), true},
		{"kinds", Field{Kind, Prefix, "session."}, sample(), true},
		{"other kinds", Field{Kind, Prefix, "aws."}, sample(), false},
		{"host", eq(Host, "web-1"), sample(), true},
		{"host of a role", Field{Host, Prefix, ""}, role, false},
		{"role", Field{Role, Prefix, "prod-"}, role, true},
		{"role of a host", Field{Role, Prefix, ""}, sample(), false},
		{"role with its type", eq(Role, "role/prod-admin"), role, false},
		{"outcome", eq(Outcome, "success"), sample(), true},
		{"login", eq(Session, "ses_1"), sample(), true},
		{"SSH session", eq(Session, "ssh_1"), sample(), true},
		{"another session", eq(Session, "ssh_2"), sample(), false},
		{"reason whole", eq(Reason, "The Outage"), sample(), true},
		{"reason in another case", eq(Reason, "the outage"), sample(), false},
		{"reason in part", Field{Reason, Contains, "outage"}, sample(), true},
		{"ticket", eq(Ticket, "OPS-7"), sample(), true},
		{"resource", eq(Resource, "host/web-1"), sample(), true},
		{"action", eq(Action, "act_1"), sample(), true},
		{"source", Field{Source, Prefix, "192.0.2."}, sample(), true},
		{"node", eq(Node, "bastion-1"), sample(), true},
		{"ID", eq(ID, "id-1"), sample(), true},
		{"policy", eq(Policy, "oncall"), sample(), true},
		{"no such policy", eq(Policy, "on"), sample(), false},
		{"policy of none", Field{Policy, Prefix, ""}, bare, false},
		{"an empty value", eq(Ticket, ""), bare, true},
		{"a field that is none", eq("shoe", ""), sample(), false},
		{"actor", Actor{"https://idp.example", "00ualice"}, sample(), true},
		{"actor of another issuer", Actor{"https://evil.example", "00ualice"}, sample(), false},
		{"actor by e-mail", Actor{"https://idp.example", "alice@example.com"}, sample(), false},
		{"since then", Since{noon}, sample(), true},
		{"since later", Since{noon.Add(1)}, sample(), false},
		{"until then", Until{noon}, sample(), false},
		{"until later", Until{noon.Add(1)}, sample(), true},
		{"text in the reason", Text{Value: "OUTAGE"}, sample(), true},
		{"text in the ticket", Text{Value: "ops-"}, sample(), true},
		{"text in the command", Text{Value: "RM -RF /srv"}, sample(), true},
		{"content kept back", Text{Value: "rm -rf", Envelope: true}, sample(), false},
		{"the reason is no content", Text{Value: "outage", Envelope: true}, sample(), true},
		{"text in a path", Text{Value: "passwd"}, sftp, true},
		{"text in a path renamed", Text{Value: "/tmp/p"}, sftp, true},
		{"text across two paths", Text{Value: "passwd/tmp"}, sftp, false},
		{"text of bytes", Text{Value: "cat \ufffdfile"}, raw, true},
		{"text in a name of a detail", Text{Value: "channel"}, sample(), false},
		{"text elsewhere", Text{Value: "alice"}, sample(), false},
		{"text of other kinds", Text{Value: "rm -rf"}, with(func(e *audit.Event) { e.Kind = audit.KindAuditRead }), false},
		{"only ASCII folds", Text{Value: "ö"}, with(func(e *audit.Event) { e.Reason = "Ö" }), false},
		{"screen by itself", Screen{"rm"}, sample(), false},
		{"sessions", Sessions{[]string{"ssh_0", "ssh_1"}}, sample(), true},
		{"other sessions", Sessions{[]string{"ssh_0", "ssh_2"}}, sample(), false},
		{"no sessions", Sessions{}, sample(), false},
		{"an event of no session", Sessions{[]string{""}}, bare, false},
	} {
		if got := c.x.Match(c.e); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestQueryMatch(t *testing.T) {
	intent := with(func(e *audit.Event) { e.Outcome = audit.Intent })
	named := eq(Outcome, "intent")
	for _, c := range []struct {
		name  string
		q     Query
		index int64
		e     audit.Event
		want  bool
	}{
		{"all", All(), 0, intent, true},
		{"outcomes alone", Query{After: -1}, 0, sample(), true},
		{"an intent is left out", Query{After: -1}, 0, intent, false},
		{"an intent that is asked for", Query{After: -1, Where: named}, 0, intent, true},
		{"deep within", Query{After: -1, Where: And{Or{eq(Kind, "x"), Not{Not{named}}}}}, 0, intent, true},
		{"and its opposite", Query{After: -1, Where: Not{named}}, 0, intent, false},
		{"another outcome", Query{After: -1, Where: Not{eq(Outcome, "denied")}}, 0, intent, false},
		{"after", Query{After: 4}, 5, sample(), true},
		{"not after", Query{After: 5}, 5, sample(), false},
		{"before", Query{After: -1, Before: 5}, 4, sample(), true},
		{"not before", Query{After: -1, Before: 5}, 5, sample(), false},
		{"limit and order do not matter", Query{After: -1, Limit: 1, Newest: true}, 99, sample(), true},
	} {
		if got := c.q.Match(c.index, c.e); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestDimensions(t *testing.T) {
	role := with(func(e *audit.Event) { e.Resource, e.Actor.Email = "role/prod", "" })
	late := with(func(e *audit.Event) { e.Time = time.Date(2030, 1, 1, 0, 30, 0, 0, noon.Location()) })
	for _, c := range []struct {
		d    Dimension
		e    audit.Event
		want string
	}{
		{ByUser, sample(), "alice@example.com"}, {ByUser, role, "00ualice"}, {ByKind, sample(), "session.command"}, {ByOutcome, sample(), "success"},
		{ByRole, role, "prod"}, {ByRole, sample(), ""}, {ByHost, sample(), "web-1"}, {ByHost, role, ""}, {ByDay, sample(), "2030-01-02"}, {ByDay, late, "2029-12-31"}, {"x", late, ""},
	} {
		if got := c.d.Of(c.e); got != c.want {
			t.Errorf("%s: %q, want %q", c.d, got, c.want)
		}
	}
	if len(Dimensions()) != 6 {
		t.Error("a dimension is not tested here")
	}
}

// TestRewrite: rewriting reaches every node and leaves the query as it was.
func TestRewrite(t *testing.T) {
	x := And{Text{Value: "a"}, Not{Or{Screen{"b"}, Text{Value: "c"}, Not{Screen{"a"}}, Screen{"b"}}}, eq(User, "u")}
	before := Format(x)
	if diff := cmp.Diff([]string{"a", "b"}, Screens(x)); diff != "" {
		t.Error(diff)
	}
	if got := Screens(eq(User, "screen")); got != nil {
		t.Errorf("got %q", got)
	}
	want := And{Text{Value: "a", Envelope: true}, Not{Or{Screen{"b"}, Text{Value: "c", Envelope: true}, Not{Screen{"a"}}, Screen{"b"}}}, eq(User, "u")}
	if diff := cmp.Diff(Expr(want), Enveloped(x)); diff != "" {
		t.Error(diff)
	}
	if Format(x) != before || Replace(nil, nil) != nil {
		t.Error("the query was changed")
	}
	sessions := Replace(x, func(x Expr) Expr {
		if s, ok := x.(Screen); ok {
			return Sessions{[]string{"ssh_" + s.Value}}
		}
		return x
	})
	if got := Screens(sessions); got != nil || Format(sessions) != `"a" -("c") user:u` {
		t.Errorf("%q, %s", got, Format(sessions))
	}
}

func TestJoin(t *testing.T) {
	a, b, c := eq(User, "a"), eq(Kind, "b"), eq(Host, "c")
	for _, v := range []struct {
		parts []Expr
		want  Expr
	}{
		{nil, And{}}, {[]Expr{And{}}, And{}}, {[]Expr{a}, a}, {[]Expr{And{}, a}, a}, {[]Expr{nil, a, nil}, a},
		{[]Expr{And{a, b}, c}, And{a, b, c}}, {[]Expr{Or{a, b}, c}, And{Or{a, b}, c}}, {[]Expr{And{And{a, b}, c}}, And{And{a, b}, c}},
	} {
		got := Join(v.parts...)
		if diff := cmp.Diff(v.want, got); diff != "" {
			t.Error(diff)
		}
		checkRoundTrip(t, got)
	}
}
