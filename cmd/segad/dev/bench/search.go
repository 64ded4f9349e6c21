//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/query"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
	"sega/cmd/segad/config"
)

// Budgets of audit.query (design.md §7), p95.
const (
	queryIndexed = 100  // ms, for the first page of an indexed filter
	queryHeavy   = 1000 // ms, for free text and counts
	queryPage    = 100  // events
	queryAsks    = 40   // of each question, each time of somebody else
	streamMemory = 200  // MiB of the broker while it sends everything
	fillBatch    = 2000 // events of one append
)

// question is a form of query, asked again and again about other people and things.
type question struct {
	name   string
	ask    func(r *rand.Rand) string
	by     []query.Dimension // a count
	newest bool
	budget float64
}

// year is the generator's.
var year = time.Date(2025, 2, 1, 0, 0, 0, 0, time.UTC)

func questions(people []string, sample []audit.Event) []question {
	user := func(r *rand.Rand) string { return people[r.IntN(len(people))] }
	// of is a field of some event that has it.
	of := func(name string, field func(audit.Event) string) func(*rand.Rand) string {
		return func(r *rand.Rand) string {
			for {
				if v := field(sample[r.IntN(len(sample))]); v != "" {
					return name + ":" + v
				}
			}
		}
	}
	host := func(r *rand.Rand) string { return storetest.HostName(r.IntN(300)) }
	role := func(r *rand.Rand) string { return storetest.RoleName(r.IntN(60)) }
	day := func(r *rand.Rand) time.Time { return year.AddDate(0, 0, r.IntN(330)) }
	span := func(r *rand.Rand, days int) string {
		from := day(r)
		return "since:" + from.Format(time.DateOnly) + " until:" + from.AddDate(0, 0, days).Format(time.DateOnly)
	}
	one := func(format string, of func(*rand.Rand) string) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return fmt.Sprintf(format, of(r)) }
	}
	plain := func(text string) func(*rand.Rand) string { return func(*rand.Rand) string { return text } }
	list := []question{
		{name: "user", ask: one("user:%s", user)}, {name: "user-prefix", ask: func(r *rand.Rand) string { return "user:" + user(r)[:6] + "*" }},
		{name: "kind", ask: plain("kind:session.revoke")}, {name: "kind-prefix", ask: plain("kind:sftp.*")},
		{name: "role", ask: one("role:%s", role)}, {name: "host", ask: one("host:%s", host)}, {name: "host-prefix", ask: func(r *rand.Rand) string { return "host:" + host(r)[:5] + "*" }},
		{name: "denied", ask: plain("outcome:denied")}, {name: "day", ask: func(r *rand.Rand) string { return span(r, 1) }},
		{name: "user-kind-month", ask: func(r *rand.Rand) string { return "user:" + user(r) + " kind:aws.* " + span(r, 30) }},
		{name: "user-or-host", ask: func(r *rand.Rand) string { return "user:" + user(r) + " or host:" + host(r) }},
		{name: "host-not-user", ask: func(r *rand.Rand) string { return "host:" + host(r) + " -user:" + user(r) }},
		{name: "nobody", ask: plain("user:nobody@corp.example")},
		{name: "session", ask: of("session", func(e audit.Event) string { return e.SessionID })}, {name: "login", ask: of("session", func(e audit.Event) string { return e.LoginID })},
		{name: "action", ask: of("action", func(e audit.Event) string { return e.Action })}, {name: "id", ask: of("id", func(e audit.Event) string { return e.ID })},
		{name: "resource", ask: of("resource", func(e audit.Event) string { return e.Resource })},
	}
	for i := range list {
		list[i].budget = queryIndexed
		newest := list[i]
		newest.name, newest.newest = newest.name+"-newest", true
		list = append(list, newest)
	}
	heavy := []question{
		{name: "text-rare", ask: func(r *rand.Rand) string { return fmt.Sprintf(`"rm -rf /var/tmp/build-%d"`, r.IntN(50_000)) }},
		{name: "text-common", ask: plain(`"systemctl restart"`)}, {name: "text-none", ask: plain(`"zebra crossing"`)}, {name: "text-two-letters-day", ask: func(r *rand.Rand) string { return `"-f" ` + span(r, 1) }},
		{name: "text-user", ask: func(r *rand.Rand) string { return `"outage" user:` + user(r) }},
		{name: "ticket", ask: of("ticket", func(e audit.Event) string { return e.Ticket })}, {name: "source", ask: of("source", func(e audit.Event) string { return e.Source })},
		{name: "node", ask: of("node", func(e audit.Event) string { return e.Node })},
		{name: "policy", ask: of("policy", func(e audit.Event) string { return strings.Join(e.PolicyIDs[:min(1, len(e.PolicyIDs))], "") })},
		{name: "reason", ask: func(r *rand.Rand) string { return fmt.Sprintf("reason:~OPS-%d", 1000+r.IntN(20_000)) }},
		{name: "count-kind", by: []query.Dimension{query.ByKind}}, {name: "count-user", by: []query.Dimension{query.ByUser}},
		{name: "count-role-day", by: []query.Dimension{query.ByRole, query.ByDay}}, {name: "count-outcome-day", by: []query.Dimension{query.ByOutcome, query.ByDay}},
		{name: "count-user-role-month", by: []query.Dimension{query.ByUser, query.ByRole, query.ByDay}, ask: func(r *rand.Rand) string { return span(r, 30) }},
		{name: "count-kind-of-host", by: []query.Dimension{query.ByKind}, ask: one("host:%s", host)},
		{name: "count-day-of-user", by: []query.Dimension{query.ByDay}, ask: one("user:%s", user)},
		{name: "count-denied-by-host", by: []query.Dimension{query.ByHost}, ask: plain("outcome:denied")},
		{name: "count-since-noon", by: []query.Dimension{query.ByKind}, ask: func(r *rand.Rand) string { return "since:" + day(r).Add(12*time.Hour+time.Minute).Format(time.RFC3339) }},
	}
	for i := range heavy {
		heavy[i].budget = queryHeavy
		if heavy[i].ask == nil {
			heavy[i].ask = plain("")
		}
	}
	return append(list, heavy...)
}

// queries measures searches and counts over a year of events, and then what a broker needs while it
// sends all of them.
func (b *bench) queries() error {
	if wanted("audit.query.sqlite", b.only) || wanted("audit.query.stream", b.only) {
		if err := b.queriesOnSQLite(); err != nil {
			return err
		}
	}
	if !wanted("audit.query.postgres", b.only) {
		return nil
	}
	return b.queriesOnPostgres()
}

func (b *bench) queriesOnSQLite() (err error) {
	e, err := b.environment()
	if err != nil {
		return err
	}
	defer func() { // the next step gets one without these events
		b.env = nil
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	if err := e.stop(); err != nil {
		return err
	}
	l, err := b.openDevLog(e)
	if err != nil {
		return err
	}
	err = b.fillAndAsk("sqlite", l)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	if err := e.start(b.ctx); err != nil {
		return err
	}
	return errors.Join(b.streamAll(e), e.stop())
}

func (b *bench) queriesOnPostgres() (err error) {
	server, err := pgtest.Run("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	key, err := audit.GenerateLogKey("bench.sega.invalid/audit")
	if err != nil {
		return err
	}
	if err := server.Exec(b.ctx, "postgres", `CREATE DATABASE year`); err != nil {
		return err
	}
	l, err := postgres.Open(b.ctx, postgres.Config{URL: server.URL("year"), Options: backend.Options{Signer: key, Verifier: key.Verifier()}})
	if err != nil {
		return err
	}
	return errors.Join(b.fillAndAsk("postgres", l), l.Close())
}

// openDevLog opens the log of a dev environment that is down.
func (b *bench) openDevLog(e *environment) (*sqlite.Log, error) {
	raw, err := config.Secret(filepath.Join(e.data, "log.key"))
	if err != nil {
		return nil, err
	}
	key, err := audit.ParseLogKey(raw.Reveal())
	if err != nil {
		return nil, err
	}
	return sqlite.Open(b.ctx, sqlite.Config{Path: filepath.Join(e.data, "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier()}})
}

// fillAndAsk appends the year and asks every question.
func (b *bench) fillAndAsk(name string, l store.Log) error {
	people, sample, err := b.fill(name, l)
	if err != nil {
		return err
	}
	for _, q := range questions(people, sample) {
		full := fmt.Sprintf("audit.query.%s.%s", name, q.name)
		if !wanted(full, b.only) {
			continue
		}
		r := rand.New(rand.NewPCG(7, 7))
		var took []time.Duration
		found := 0
		for range queryAsks {
			text := q.ask(r)
			from := time.Now()
			n, err := b.ask(l, q, text)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", q.name, text, err)
			}
			took, found = append(took, time.Since(from)), found+n
		}
		b.add(result(full+".p50", millis(median(took)), "ms"), result(full+".p95", millis(quantile(took, 0.95)), "ms").atMost(q.budget),
			result(full+".found", float64(found)/queryAsks, "rows"))
	}
	return nil
}

// ask reads the first page, or a whole count.
func (b *bench) ask(l store.Log, asked question, text string) (found int, err error) {
	where, err := query.Parse(text, time.Now())
	if err != nil {
		return 0, err
	}
	q := query.Query{Where: where, After: -1, Newest: asked.newest, Limit: queryPage}
	if asked.by != nil {
		groups, err := l.Count(b.ctx, q, asked.by)
		return len(groups), err
	}
	for _, err := range l.Search(b.ctx, q) {
		if err != nil {
			return 0, err
		}
		found++
	}
	return found, nil
}

// fill appends the generated events and returns the e-mails of those who made them, and some of the events.
func (b *bench) fill(name string, l store.Log) (people []string, sample []audit.Event, err error) {
	from, seen := time.Now(), map[string]bool{}
	g := storetest.NewGeneratorOf(1, b.events)
	fmt.Fprintf(b.talk, "appending %d events to %s\n", b.events, name)
	for left := b.events; left > 0; {
		n := min(left, fillBatch)
		events := g.Events(n)
		for _, e := range events {
			if m := e.Actor.Email; m != "" && !seen[m] {
				seen[m], people = true, append(people, m)
			}
		}
		if _, err := l.Append(b.ctx, events, nil); err != nil {
			return nil, nil, err
		}
		sample = append(sample, events[:max(1, n/100)]...)
		left -= n
	}
	took := time.Since(from)
	b.add(result("audit.query."+name+".events", float64(b.events), "events"), result("audit.query."+name+".fill", float64(b.events)/took.Seconds(), "1/s"))
	return people, sample, b.awaitText(name, l, from)
}

// awaitText waits until free text is answered from an index alone.
func (b *bench) awaitText(name string, l store.Log, from time.Time) error {
	i, ok := l.(interface {
		Indexed(ctx context.Context, size int64) error
	})
	if !ok {
		return nil
	}
	_, tree := l.Head()
	err := i.Indexed(b.ctx, tree.N)
	b.add(result("audit.query."+name+".text-index", time.Since(from).Seconds(), "s"))
	return err
}

// streamAll lets a reviewer fetch every event through the broker, and watches the broker's memory.
func (b *bench) streamAll(e *environment) error {
	home := filepath.Join(b.dir, "home-reviewer")
	environ := e.environ(home)
	login := exec.CommandContext(b.ctx, filepath.Join(e.bin, "segad"), "dev", "login", "carol@example.com")
	login.Env = environ
	if out, err := login.CombinedOutput(); err != nil {
		return fmt.Errorf("log carol in: %w\n%s", err, out)
	}
	c := exec.CommandContext(b.ctx, filepath.Join(e.bin, "sega"), "audit", "query", "--intents", "--json")
	lines := &lineCounter{}
	var talk strings.Builder
	c.Env, c.Stdout, c.Stderr = environ, lines, &talk
	from := time.Now()
	if err := startTied(c); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	peak, tick := 0.0, time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("sega audit query: %w\n%s", err, talk.String())
			}
			running = false
		case <-tick.C:
			if kib, err := pss(e.PIDs["broker"]); err == nil {
				peak = max(peak, kib)
			}
		}
	}
	if lines.n < b.events {
		return fmt.Errorf("%d events came of %d", lines.n, b.events)
	}
	b.add(result("audit.query.stream.memory", peak/1024, "MiB").atMost(streamMemory), result("audit.query.stream.rate", float64(lines.n)/time.Since(from).Seconds(), "1/s"))
	return nil
}

// lineCounter counts what it is given.
type lineCounter struct{ n int }

var _ io.Writer = (*lineCounter)(nil)

func (c *lineCounter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			c.n++
		}
	}
	return len(p), nil
}
