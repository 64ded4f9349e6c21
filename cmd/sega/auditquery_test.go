package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
)

// searching lets a broker of rows answer searches and counts as the real one does.
func searching(b *logBroker) *logBroker {
	b.answer = func(w http.ResponseWriter, r *http.Request) bool {
		v := r.URL.Query()
		switch r.URL.Path {
		case api.RouteEvents:
			w.Header().Set("Content-Type", "application/x-ndjson")
			b.search(w, r, v)
		case api.RouteCount:
			w.Header().Set("Content-Type", "application/x-ndjson")
			b.count(w, v)
		default:
			return false
		}
		return true
	}
	return b
}

func (b *logBroker) asks(v url.Values) query.Query {
	q := query.Query{After: -1, Intents: v.Get(api.ParamIntents) == "1"}
	var err error
	if q.Where, err = query.Parse(v.Get(api.ParamQuery), noon); err != nil {
		b.t.Errorf("the broker cannot read what it is asked: %v", err)
	}
	if text := v.Get(api.ParamAfter); text != "" {
		q.After, _ = strconv.ParseInt(text, 10, 64)
	}
	q.Before, _ = strconv.ParseInt(v.Get(api.ParamBefore), 10, 64)
	return q
}

// found are the rows that a query selects.
func (b *logBroker) found(q query.Query) (found []audit.Row) {
	for _, row := range b.rows {
		e, err := audit.Parse(row.Body)
		if err != nil {
			b.t.Error(err)
		}
		if e.Details = row.Details; q.Match(row.Index, e) {
			found = append(found, row)
		}
	}
	return found
}

func (b *logBroker) search(w http.ResponseWriter, r *http.Request, v url.Values) {
	q := b.asks(v)
	limit, _ := strconv.Atoi(v.Get(api.ParamLimit))
	rows := b.found(q)
	for i := range rows {
		row := rows[i]
		if v.Get(api.ParamNewest) == "1" {
			row = rows[len(rows)-1-i]
		}
		if limit > 0 && i == limit {
			break
		}
		b.sendEvent(w, row)
		q.After = row.Index
	}
	for v.Get(api.ParamFollow) == "1" && r.Context().Err() == nil && !b.stopping {
		w.(http.Flusher).Flush()
		b.mu.Unlock() // the log goes on
		time.Sleep(time.Millisecond)
		b.mu.Lock()
		for _, row := range b.found(q) {
			b.sendEvent(w, row)
			q.After = row.Index
		}
		_, _ = w.Write([]byte("{\"heartbeat\":true}\n"))
	}
	_, _ = w.Write([]byte("{\"end\":true}\n"))
}

func (b *logBroker) sendEvent(w http.ResponseWriter, row audit.Row) {
	_ = json.NewEncoder(w).Encode(api.Event{Index: row.Index, Envelope: row.Body, Details: row.Details})
}

func (b *logBroker) count(w http.ResponseWriter, v url.Values) {
	counts := map[string]int64{}
	for _, row := range b.found(b.asks(v)) {
		e, _ := audit.Parse(row.Body)
		var key []string
		for by := range strings.SplitSeq(v.Get(api.ParamBy), ",") {
			key = append(key, query.Dimension(by).Of(e))
		}
		text, _ := json.Marshal(key)
		counts[string(text)]++
	}
	for key, n := range counts {
		fmt.Fprintf(w, "{\"key\":%s,\"count\":%d}\n", key, n)
	}
	_, _ = w.Write([]byte("{\"end\":true}\n"))
}

// stop makes the broker end its streams.
func (b *logBroker) stop(stopping bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopping = stopping
}

func (b *logBroker) of(who, kind, resource string, day int) {
	e := event(kind, audit.Success, "ssh_"+who, "")
	e.Actor, e.Resource, e.Time = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.test", Sub: who, Email: who + "@example.com"}, resource, noon.AddDate(0, 0, day)
	b.append(e)
}

// queryWorld is a broker in whose log alice and bob did a few things.
func queryWorld(t *testing.T) (*logBroker, *reviewer) {
	b := searching(newLogBroker(t, 0))
	b.of("alice", audit.KindUserLogin, "login/1", -2)
	b.of("bob", audit.KindUserLogin, "login/2", -1)
	b.of("alice", audit.KindAWSAssume, "role/prod", -1)
	b.of("bob", audit.KindAWSAssume, "role/prod", 0)
	b.of("bob", audit.KindAWSAssume, "role/dev", 0)
	b.of("bob", audit.KindAWSAssume, "role/x\x1b[2J\ny", 0)
	return b, b.reviewer()
}

func TestAuditQuery(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"all":                {nil, "0 1 2 3 4 5"},
		"text":               {[]string{"user:alice@example.com"}, "0 2"},
		"text in words":      {[]string{"user:bob", "and", "role:*"}, "3 4 5"},
		"flags":              {[]string{"--user", "bob", "--kind", "aws.*"}, "3 4 5"},
		"flags beside text":  {[]string{"role:prod or role:dev", "--user", "bob"}, "3 4"},
		"a part":             {[]string{"--role", "~RO"}, "2 3"},
		"a flag is no query": {[]string{"--user", "bob or user:alice"}, ""},
		"times":              {[]string{"--since", "36h", "--until", "12h"}, "1 2"},
		"a page":             {[]string{"--after", "1", "--limit", "2"}, "2 3"},
		"the newest":         {[]string{"--newest", "--limit", "2", "--before", "5"}, "4 3"},
		"after the first":    {[]string{"--after", "0", "--limit", "1"}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := queryWorld(t)
			if code := r.sega(append([]string{"audit", "query", "--json"}, c.args...)...); code != 0 {
				t.Fatalf("exit %d: %s", code, r.talk)
			}
			var got []string
			for line := range strings.Lines(r.out.String()) {
				var v struct{ Idx int }
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatalf("%v: %q", err, line)
				}
				got = append(got, fmt.Sprint(v.Idx))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestBeforeTheFirst: whoever goes on behind the first event gets nothing, and not the newest again.
func TestBeforeTheFirst(t *testing.T) {
	for flag, want := range map[string]string{"--json=false": "IDX  TIME  KIND  OUTCOME  WHO  WHAT  SESSION  REASON\n", "--json": ""} {
		b, r := queryWorld(t)
		if code := r.sega("audit", "query", "--newest", "--before", "0", flag); code != 0 || r.out.String() != want || len(b.asked) > 0 {
			t.Errorf("%s: exit %d, asked %q\n%s%s", flag, code, b.asked, r.out, r.talk)
		}
	}
}

// TestAuditQueryTable: columns stand, and nothing in them moves the terminal.
func TestAuditQueryTable(t *testing.T) {
	_, r := queryWorld(t)
	if code := r.sega("audit", "query", "kind:aws.*", "--user", "bob"); code != 0 {
		t.Fatal(r.talk)
	}
	lines := strings.Split(strings.TrimSpace(r.out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("got\n%s", r.out)
	}
	at := strings.Index(lines[0], "SESSION")
	for _, line := range lines[1:3] {
		if !strings.HasPrefix(line[at:], "ssh_bob") {
			t.Errorf("columns do not stand:\n%s", r.out)
		}
	}
	if !strings.Contains(lines[3], `role/x\u001b[2J\ny`) || strings.Contains(r.out.String(), "\x1b") {
		t.Errorf("got %q", lines[3])
	}
}

// TestAuditQueryBreaksOff: a refusal prints no header; what came before a failure is printed.
func TestAuditQueryBreaksOff(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		for rows, want := range map[int]int{0: 0, 2: 3} {
			b, r := queryWorld(t)
			b.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				if rows == 0 {
					b.refuse(w, api.Errorf(api.KindDenied, "that was all"))
					return true
				}
				w.Header().Set("Content-Type", "application/x-ndjson")
				for _, row := range b.rows[:rows] {
					b.sendEvent(w, row)
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"problem": api.Errorf(api.KindDenied, "that was all")})
				return true
			}
			code := r.sega("audit", "query", fmt.Sprintf("--json=%v", asJSON))
			told := "sega: that was all"
			if asJSON {
				want, told = rows, `"detail":"that was all"`
			}
			if got := strings.Count(r.out.String(), "\n"); code != exitDenied || got != want || !strings.Contains(r.talk.String(), told) {
				t.Errorf("json %v: exit %d, %d lines, want %d\n%s%s", asJSON, code, got, want, r.out, r.talk)
			}
		}
	}
}

// TestAuditQueryNotice: what the broker says of an answer stands beside it, and never on standard output.
func TestAuditQueryNotice(t *testing.T) {
	for _, args := range [][]string{{"audit", "query"}, {"audit", "query", "--json"}, {"audit", "query", "--count-by", "user"}} {
		b, r := queryWorld(t)
		answer := b.answer
		b.answer = func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set(api.HeaderNotice, "not all of it \u202ewas searched")
			return answer(w, req)
		}
		if code := r.sega(args...); code != 0 || strings.Contains(r.out.String(), "searched") || !strings.HasPrefix(r.talk.String(), "sega: not all of it ") || strings.Contains(r.talk.String(), "\u202e") {
			t.Errorf("%v: exit %d\n%s%s", args, code, r.out, r.talk)
		}
	}
}

func TestAuditCount(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
		talk string
	}{
		"the largest first": {[]string{"--count-by", "user"}, "USER               COUNT\nbob@example.com    4\nalice@example.com  2\n", ""},
		"equals by key":     {[]string{"kind:user.login", "--count-by", "user"}, "USER               COUNT\nalice@example.com  1\nbob@example.com    1\n", ""},
		"two":               {[]string{"-user:bob", "--count-by", "role,kind"}, "ROLE  KIND        COUNT\n-     user.login  1\nprod  aws.assume  1\n", ""},
		"days in order":     {[]string{"--count-by", "day,user"}, "DAY         USER               COUNT\n2029-12-31  alice@example.com  1\n2030-01-01  alice@example.com  1\n2030-01-01  bob@example.com    1\n2030-01-02  bob@example.com    3\n", ""},
		"the top of days":   {[]string{"--count-by", "day", "--top", "1"}, "DAY         COUNT\n2030-01-02  3\n", "2 smaller counts are left out"},
		"json":              {[]string{"--json", "--user", "alice", "--count-by", "user,role"}, `{"user":"alice@example.com","role":"","count":1}` + "\n" + `{"user":"alice@example.com","role":"prod","count":1}` + "\n", ""},
		"nothing":           {[]string{"--user", "nobody@example.com", "--count-by", "user", "--json"}, "", "no event matches"},
		"what others wrote": {[]string{"role:~2J", "--count-by", "role"}, "ROLE           COUNT\n" + `x\u001b[2J\ny  1` + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := queryWorld(t)
			args := append([]string{"audit", "query"}, c.args...)
			if strings.HasPrefix(c.args[0], "-user") {
				args = append([]string{"audit", "query"}, append(c.args[1:], "--", c.args[0])...)
			}
			if code := r.sega(args...); code != 0 {
				t.Fatalf("exit %d: %s", code, r.talk)
			}
			if diff := cmp.Diff(c.want, r.out.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if c.talk != "" && !strings.Contains(r.talk.String(), c.talk) || c.talk == "" && r.talk.Len() > 0 {
				t.Errorf("stderr %q", r.talk)
			}
		})
	}
}

// TestQueryUsage: a mistake is said before the broker is asked, and in a query shown at its place.
func TestQueryUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"query", "user:alice usr:bob"}, "  user:alice usr:bob\n               ^"},
		{[]string{"query", "größe", "or"}, "query, at character 9: a term is missing"},
		{[]string{"query", "usr:\x1b[2J"}, `query, at character 1`},
		{[]string{"query", "--since", "yesterday"}, `--since: "yesterday" is not a time like 7d`},
		{[]string{"query", "--outcome", "maybe"}, "--outcome: an outcome is intent"},
		{[]string{"query", strings.Repeat("a ", 100), "--user", "x"}, "more than 100 terms"},
		{[]string{"query", "--limit=-1"}, "--limit is a number"},
		{[]string{"query", "--after=-2"}, "an IDX"},
		{[]string{"query", "--top", "3"}, "--top goes with --count-by"},
		{[]string{"query", "--count-by", "user", "--top=-3"}, "--top is a number"},
		{[]string{"query", "--count-by", "shoe"}, "takes user, kind, outcome, role, host, day"},
		{[]string{"query", "--count-by", "user,user"}, "user twice"},
		{[]string{"query", "--count-by", "user,"}, `not ""`},
		{[]string{"query", "--count-by", ""}, `not ""`},
		{[]string{"query", "--count-by", "user", "--limit", "3"}, "leave out --limit"},
		{[]string{"query", "--count-by", "user", "--before", "0"}, "leave out --limit"},
		{[]string{"query", "--before=-2"}, "an IDX"},
		{[]string{"tail", "--lines=-1"}, "--lines is a number"},
		{[]string{"tail", "usr:x"}, "there is no field"},
	} {
		a, out, talk := testApp(t)
		code := run(t.Context(), append([]string{"audit"}, c.args...), a)
		if code != exitUsage || !strings.Contains(talk.String(), c.want) || out.Len() > 0 || strings.Contains(talk.String(), "\x1b") {
			t.Errorf("%.60q: exit %d, stdout %q, stderr\n%s", c.args, code, out, talk)
		}
	}
}

// TestDaysOfUTC: the days of counts are not those of the lists, which the help says.
func TestDaysOfUTC(t *testing.T) {
	b, r := queryWorld(t)
	zone := time.FixedZone("", 14*60*60)
	r.app.now = func() time.Time { return noon.In(zone) }
	b.of("carol", audit.KindUserLogin, "login/4", 0) // at noon: the next day in that zone
	if code := r.sega("audit", "query", "user:carol@example.com", "--count-by", "day"); code != 0 || r.out.String() != "DAY         COUNT\n2030-01-02  1\n" {
		t.Errorf("exit %d\n%s%s", code, r.out, r.talk)
	}
	if code := r.sega("audit", "query", "--help"); code != 0 || !strings.Contains(r.out.String(), "the days of --count-by are days of UTC") {
		t.Errorf("exit %d\n%s", code, r.out)
	}
}

func TestCompletion(t *testing.T) {
	for typed, want := range map[string]string{"": "user kind outcome role host day", "us": "user kind outcome role host day", "user,": "user,kind user,outcome user,role user,host user,day", "day,user,r": "day,user,kind day,user,outcome day,user,role day,user,host"} {
		got, directive := completeDimensions(nil, nil, typed)
		if strings.Join(got, " ") != want || directive&cobra.ShellCompDirectiveNoFileComp == 0 {
			t.Errorf("%q: %q", typed, got)
		}
	}
	a, out, _ := testApp(t)
	if code := run(t.Context(), []string{"__complete", "audit", "query", "--kind", "session.c"}, a); code != 0 || !strings.Contains(out.String(), "session.command\n") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// gone is an output that nobody reads any more.
type gone struct{ err error }

func (g gone) Write([]byte) (int, error) { return 0, g.err }

// TestPipe: `| head` is no failure; a full disk is.
func TestPipe(t *testing.T) {
	_, r := queryWorld(t)
	for _, args := range [][]string{{"query"}, {"query", "--json"}, {"query", "--count-by", "user"}, {"tail"}} {
		r.app.out = gone{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}}
		if code := r.sega(append([]string{"audit"}, args...)...); code != 0 || r.talk.Len() > 0 {
			t.Errorf("%q: exit %d, %s", args, code, r.talk)
		}
		r.app.out = gone{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}}
		if code := r.sega(append([]string{"audit"}, args...)...); code != exitFailed || !strings.Contains(r.talk.String(), "no space") {
			t.Errorf("%q: exit %d, %s", args, code, r.talk)
		}
	}
	if lost := api.Errorf(api.KindUnreachable, "x").WithCause(syscall.EPIPE); quietly(lost) == nil {
		t.Error("a lost connection is taken for output that nobody reads")
	}
}
