package storetest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
)

// variedField asks for one field in some way.
func variedField(r *rand.Rand) query.Expr {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	names := query.Names()
	f := query.Field{Name: names[r.IntN(len(names))], Op: query.Op(r.IntN(3))}
	switch f.Name {
	case query.User:
		f.Value = pick("", "ann@corp.example", "ann", "00u1", "00u", "a", "ä", "a%", "a_", "zed", "a\U0010ffff")
	case query.Kind:
		f.Value = pick("ssh.hop", "ssh.", "", "s", "aws.assume", "none.such")
	case query.Role, query.Host:
		f.Value = pick("prod", "prod-read", "", "db1", "db", "PROD", "nope")
	case query.Outcome:
		f.Value = pick("intent", "success", "denied", "unknown", "odd", "")
	case query.Session:
		f.Value = pick("ses_1", "ssh_2", "ses_", "ses_9", "")
	case query.Reason, query.Ticket:
		f.Value = pick("outage", "", "OPS-1", "%", "_", "\"late\"", "\\", "'", "ärger")
	default:
		f.Value = pick("", "n1", "192.0.2.1", "act_", "act_1", "p1", "p2", "role/prod", "host/", "recording/")
	}
	return f
}

// VariedExpr returns an expression that selects among the events of the suite in some way.
func VariedExpr(r *rand.Rand, depth int) query.Expr {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	parts := func() []query.Expr {
		var xs []query.Expr
		for range r.IntN(4) {
			xs = append(xs, VariedExpr(r, depth-1))
		}
		return xs
	}
	at := time.Unix(1_770_000_000+int64(r.IntN(50)), int64(r.IntN(3)))
	if r.IntN(8) == 0 {
		at = time.Date(r.IntN(4000), 1, 1, 0, 0, 0, 0, time.UTC)
	}
	n := r.IntN(14)
	if depth == 0 {
		n = r.IntN(11)
	}
	switch n {
	case 6:
		return query.Actor{Iss: pick("https://a.example", "https://b.example", ""), Sub: pick("00u1", "00u2", "")}
	case 7:
		return query.Since{At: at}
	case 8:
		return query.Until{At: at}
	case 9:
		return query.Text{Value: pick("rm -rf", "outage", "select", "x", "-rf", "\"", "%", "ops", "100%_", "\\ 1", "naïve", "-", "*", "late\" OR"), Envelope: r.IntN(2) == 0}
	case 10:
		return query.Sessions{IDs: [][]string{nil, {"ssh_1"}, {"ssh_1", "ssh_2"}, {"ssh_9"}, {""}}[r.IntN(5)]}
	case 11:
		return query.And(parts())
	case 12:
		return query.Or(parts())
	case 13:
		return query.Not{X: VariedExpr(r, depth-1)}
	}
	return variedField(r)
}

func variedQuery(r *rand.Rand) query.Query {
	q := query.Query{After: -1, Intents: r.IntN(2) == 0, Newest: r.IntN(2) == 0}
	if r.IntN(10) > 0 {
		q.Where = VariedExpr(r, 3)
	}
	if r.IntN(4) == 0 {
		q.After = int64(r.IntN(320)) - 2
	}
	if r.IntN(4) == 0 {
		q.Before = int64(r.IntN(400))
	}
	if r.IntN(4) == 0 {
		q.Limit = 1 + r.IntN(40)
	}
	return q
}

// testSearch holds the backend's search against query.Query.Match.
func testSearch(t *testing.T, b Backend) {
	l := b.Open(t)
	r := rand.New(rand.NewPCG(1, 2))
	var events []audit.Event
	for range 300 {
		events = append(events, varied(r))
	}
	mustAppend(t, l, events...)
	matched := 0
	for n := range 2000 {
		if n == 1000 {
			b.settle(t, l)
		}
		q := variedQuery(r)
		want := selected(events, q)
		var got []int64
		for _, row := range collect(t, l.Search(t.Context(), q)) {
			got = append(got, row.Index)
			if err := audit.CheckRow(row); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("query %#v: %s", q, diff)
		}
		matched += len(want)
	}
	if matched < 20_000 {
		t.Errorf("the queries match only %d rows in all: they test little", matched)
	}
}

func selected(events []audit.Event, q query.Query) []int64 {
	var want []int64
	for n := range events {
		i := n
		if q.Newest {
			i = len(events) - 1 - n
		}
		if q.Match(int64(i), events[i]) && (q.Limit == 0 || len(want) < q.Limit) {
			want = append(want, int64(i))
		}
	}
	return want
}
