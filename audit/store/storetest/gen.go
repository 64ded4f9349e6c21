package storetest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"sega/audit"
	"sega/audit/store"
)

// Sizes of the company that a Generator tells of.
const (
	genPeople = 400
	genRoles  = 60
	genHosts  = 300
	genDays   = 365
)

// Generator makes the events of a year of a company, as a log would hold them: 400 people with 2 to
// 5 roles of 60 and 3 to 10 hosts of 300 each, working days busier than weekends, times rising but
// for a little disorder. One seed gives the same events every time, IDs included.
type Generator struct {
	r      *rand.Rand
	people []person
	at     time.Time
	step   time.Duration // between two events on average
	queue  []audit.Event // of flows that have begun, not yet due
	n      uint64
}

type person struct {
	iss, sub, email, source string
	roles, hosts            []string
	weight                  int
}

// NewGenerator returns a generator whose year holds some five million events.
func NewGenerator(seed uint64) *Generator { return NewGeneratorOf(seed, 5_000_000) }

// NewGeneratorOf returns a generator that needs so many events for its year, and goes on after it.
func NewGeneratorOf(seed uint64, events int) *Generator {
	g := &Generator{r: rand.New(rand.NewPCG(seed, 0x5e6a)), at: time.Date(2025, 2, 1, 0, 0, 0, 0, time.UTC)}
	g.step = genDays * 24 * time.Hour / time.Duration(max(events, 1))
	for i := range genPeople {
		g.people = append(g.people, g.person(i))
	}
	return g
}

func (g *Generator) person(i int) person {
	given := []string{"ada", "ben", "chloe", "dan", "eva", "finn", "gwen", "hugo", "iris", "jon", "kira", "leo", "mia", "noah", "olga", "pia", "quinn", "rosa", "sam", "tess"}
	family := []string{"abel", "berg", "cruz", "diaz", "ek", "falk", "gray", "holm", "ito", "jung", "king", "lund", "meyer", "novak", "olsen", "park", "reyes", "stone", "tran", "weber"}
	p := person{iss: "https://idp.corp.example/oauth2/default", sub: fmt.Sprintf("00u%017x", uint64(i)*0x9e3779b97f4a7c15>>4),
		email:  fmt.Sprintf("%s.%s@corp.example", given[i%len(given)], family[i/len(given)]),
		source: fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250), weight: 1 + g.r.IntN(8)}
	for range 2 + g.r.IntN(4) {
		p.roles = append(p.roles, RoleName(g.r.IntN(genRoles)))
	}
	for range 3 + g.r.IntN(8) {
		p.hosts = append(p.hosts, HostName(g.r.IntN(genHosts)))
	}
	return p
}

// RoleName returns the name of one of the generated roles, 0 to 59.
func RoleName(i int) string {
	team := []string{"billing", "payments", "search", "mail", "ledger", "catalog", "fraud", "mobile", "infra", "data", "web", "risk", "growth", "ops", "sre"}
	return team[i%len(team)] + []string{"-read", "-deploy", "-admin", "-breakglass"}[i/len(team)%4]
}

// HostName returns the name of one of the generated hosts, 0 to 299.
func HostName(i int) string {
	return fmt.Sprintf("%s%d.prod.corp.example", []string{"web-", "db-", "cache-", "queue-", "batch-"}[i%5], i/5)
}

// Events returns the next n events, in the order of a log.
func (g *Generator) Events(n int) []audit.Event {
	events := make([]audit.Event, 0, n)
	for len(events) < n {
		events = append(events, g.Next())
	}
	return events
}

// Next returns the next event.
func (g *Generator) Next() audit.Event {
	if len(g.queue) == 0 || len(g.queue) < 64 && g.r.IntN(3) == 0 {
		g.flow()
	}
	g.at = g.at.Add(g.pause())
	// Flows of many people run at once: the next event is of any of them, each in its own order.
	i := 0
	for range 4 {
		if k := g.r.IntN(len(g.queue)); g.first(k) {
			i = k
			break
		}
	}
	e := g.queue[i]
	g.queue = append(g.queue[:i], g.queue[i+1:]...)
	e.ID, e.Time = g.id(), g.at.Add(-time.Duration(g.r.Int64N(int64(g.step)/2+1)))
	return e
}

// first reports whether no earlier event of the same flow is queued.
func (g *Generator) first(k int) bool {
	for i := range k {
		if g.queue[i].RequestID == g.queue[k].RequestID {
			return false
		}
	}
	return true
}

// pause is the time to the next event: working hours are five times as busy as the rest.
func (g *Generator) pause() time.Duration {
	mean := g.step * 5 / 3
	if h := g.at.Hour(); h >= 8 && h < 18 && g.at.Weekday() != time.Saturday && g.at.Weekday() != time.Sunday {
		mean = g.step / 2
	}
	return time.Duration(g.r.ExpFloat64() * float64(mean))
}

// id is a UUIDv7 made of the time, a number and the generator's own chance.
func (g *Generator) id() string {
	var u uuid.UUID
	g.n++
	binary.BigEndian.PutUint64(u[:8], uint64(g.at.UnixMilli())<<16|g.n&0xfff)
	binary.BigEndian.PutUint64(u[8:], g.r.Uint64())
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return u.String()
}

// flow queues what one person does.
func (g *Generator) flow() {
	p := &g.people[g.r.IntN(len(g.people))]
	for p.weight < g.r.IntN(9) {
		p = &g.people[g.r.IntN(len(g.people))]
	}
	f := flow{g: g, p: p, login: fmt.Sprintf("ses_%016x", g.r.Uint64()), request: fmt.Sprintf("req_%016x", g.r.Uint64())}
	if g.r.IntN(4) == 0 {
		f.reason, f.ticket = g.why()
	}
	switch n := g.r.IntN(100); {
	case n < 12:
		f.logins()
	case n < 45:
		f.assume()
	case n < 94:
		f.ssh()
	default:
		f.rare()
	}
}

// why is a reason, in a fifth of the cases with a ticket, so that one event in twenty has one.
func (g *Generator) why() (reason, ticket string) {
	what := []string{"deploy of the %s service", "outage of %s", "look into slow queries on %s", "rotate keys of %s", "backup drill for %s", "customer report about %s"}
	about := []string{"billing", "payments", "search", "mail", "ledger", "catalog", "fraud", "mobile"}
	reason = fmt.Sprintf(what[g.r.IntN(len(what))], about[g.r.IntN(len(about))])
	if g.r.IntN(5) == 0 {
		ticket = fmt.Sprintf("OPS-%d", 1000+g.r.IntN(20_000))
		reason += " (" + ticket + ")"
	}
	return reason, ticket
}

// flow is what one person does in a row.
type flow struct {
	g                              *Generator
	p                              *person
	login, request, reason, ticket string
}

func (f flow) add(kind string, outcome audit.Outcome, change func(*audit.Event)) {
	e := audit.Event{V: 1, Kind: kind, Outcome: outcome, PolicyIDs: []string{}, LoginID: f.login, RequestID: f.request,
		Actor:  audit.Actor{Kind: audit.ActorUser, Iss: f.p.iss, Sub: f.p.sub, Email: f.p.email},
		Reason: f.reason, Ticket: f.ticket, Source: f.p.source, Node: "broker-1"}
	if change != nil {
		change(&e)
	}
	f.g.queue = append(f.g.queue, e)
}

// decided fills in what policy has decided about a resource.
func decided(resource, policy string) func(*audit.Event) {
	return func(e *audit.Event) {
		e.Resource, e.PolicyIDs = resource, []string{policy}
		e.PolicyDigest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	}
}

func (f flow) logins() {
	if f.g.r.IntN(12) == 0 {
		f.add(audit.KindUserLogin, audit.Denied, nil)
		return
	}
	f.add(audit.KindUserLogin, audit.Success, nil)
	if f.g.r.IntN(2) == 0 {
		f.add(audit.KindSessionRenew, audit.Success, nil)
	}
	if f.g.r.IntN(3) == 0 {
		f.add(audit.KindUserLogout, audit.Success, nil)
	}
}

func (f flow) assume() {
	action := fmt.Sprintf("act_%016x", f.g.r.Uint64())
	change := func(e *audit.Event) {
		decided(audit.ResourceRole+f.p.roles[f.g.r.IntN(len(f.p.roles))], "aws-by-team")(e)
		e.Action = action
	}
	if f.g.r.IntN(20) == 0 {
		f.add(audit.KindAWSAssume, audit.Denied, decided(audit.ResourceRole+RoleName(f.g.r.IntN(genRoles)), "default-deny"))
		return
	}
	outcome := audit.Success
	if f.g.r.IntN(50) == 0 {
		outcome = audit.Failure
	}
	f.add(audit.KindAWSAssume, audit.Intent, change)
	intent := f.g.queue[len(f.g.queue)-1]
	f.add(audit.KindAWSAssume, outcome, func(e *audit.Event) { change(e); e.Resource = intent.Resource })
}

func (f flow) ssh() {
	host := audit.ResourceHost + f.p.hosts[f.g.r.IntN(len(f.p.hosts))]
	f.add(audit.KindSSHCert, audit.Success, decided("", "ssh-by-team"))
	if f.g.r.IntN(25) == 0 {
		f.add(audit.KindSSHHop, audit.Denied, decided(audit.ResourceHost+HostName(f.g.r.IntN(genHosts)), "default-deny"))
		return
	}
	session := fmt.Sprintf("ssh_%016x", f.g.r.Uint64())
	on := func(e *audit.Event) {
		decided(host, "ssh-by-team")(e)
		e.SessionID = session
	}
	f.add(audit.KindSSHHop, audit.Success, on)
	f.add(audit.KindSessionStart, audit.Success, on)
	for range f.g.r.IntN(4) {
		command := f.command()
		f.add(audit.KindSessionCommand, audit.Success, func(e *audit.Event) {
			on(e)
			e.Details, e.Node = command, "bastion-1"
		})
	}
	if f.g.r.IntN(10) == 0 {
		path := fmt.Sprintf("/srv/%s/export-%05d.csv", RoleName(f.g.r.IntN(genRoles)), f.g.r.IntN(100_000))
		f.add(audit.KindSFTPRead, audit.Success, func(e *audit.Event) {
			on(e)
			e.Details, e.Node = object(map[string]any{"path": path, "write": false}), "bastion-1"
		})
	}
	f.add(audit.KindSessionEnd, audit.Success, on)
}

// command is the details of a session.command.
func (f flow) command() json.RawMessage {
	forms := []string{"sudo systemctl restart app-%d", "tail -n %d /var/log/app/current.log", "psql -c 'select * from orders where id = %d'",
		"kubectl -n prod logs web-%d --since=1h", "rm -rf /var/tmp/build-%d", "df -h /srv/data%d", "git -C /srv/app checkout release-%d",
		"curl -sf http://127.0.0.1:9000/health?probe=%d", "journalctl -u queue@%d --no-pager", "scp report-%d.csv archive:/in/"}
	text := fmt.Sprintf(forms[f.g.r.IntN(len(forms))], f.g.r.IntN(50_000))
	return object(map[string]any{"type": "exec", "command": text})
}

func (f flow) rare() {
	switch f.g.r.IntN(4) {
	case 0:
		f.add(audit.KindAuditRead, audit.Success, nil)
	case 1:
		f.add(audit.KindSSHRefuse, audit.Denied, decided(audit.ResourceHost+HostName(f.g.r.IntN(genHosts)), "default-deny"))
	case 2:
		f.add(audit.KindRequestRefuse, audit.Denied, nil)
	case 3:
		f.add(audit.KindSessionRevoke, audit.Success, nil)
	}
}

func object(v map[string]any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings and numbers alone
	}
	return b
}

// Fill appends the generator's next n events to a log in large appends, made while the last one is
// under way.
func Fill(ctx context.Context, l store.Log, g *Generator, n int) error {
	const batch = 2 * audit.SegmentSize
	ctx, cancel := context.WithCancel(ctx)
	made := make(chan []audit.Event)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(made)
		for left := n; left > 0; left -= batch {
			select {
			case made <- g.Events(min(batch, left)):
			case <-ctx.Done():
				return
			}
		}
	})
	for events := range made {
		if _, err := l.Append(ctx, events, nil); err != nil {
			return fmt.Errorf("fill a log: %w", err)
		}
	}
	return ctx.Err()
}
