package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vectorBody is the body of vectorEvent as another implementation must write it.
const vectorBody = `{"v":1,"id":"01910000-0000-7000-8000-000000000001","time":"2026-03-04T05:06:07.000000089Z","kind":"ssh.hop",` +
	`"outcome":"success","actor":{"kind":"user","iss":"https://idp.corp.example","sub":"00u1","email":"ann@corp.example"},` +
	`"login_id":"ses_a","session_id":"ssh_b","request_id":"r1","action":"","resource":"host/db1","reason":"a \u003c b","ticket":"OPS-1",` +
	`"policy_digest":"","policy_ids":["p1"],"source":"198.51.100.7","node":"bastion-1","details_digest":""}`

func vectorEvent() Event {
	return Event{V: 1, ID: "01910000-0000-7000-8000-000000000001", Time: time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC),
		Kind: KindSSHHop, Outcome: Success,
		Actor:   Actor{Kind: ActorUser, Iss: "https://idp.corp.example", Sub: "00u1", Email: "ann@corp.example"},
		LoginID: "ses_a", SessionID: "ssh_b", RequestID: "r1", Resource: "host/db1", Reason: "a < b", Ticket: "OPS-1",
		PolicyIDs: []string{"p1"}, Source: "198.51.100.7", Node: "bastion-1"}
}

func TestSealVector(t *testing.T) {
	row, err := Seal(vectorEvent())
	if err != nil {
		t.Fatal(err)
	}
	want := Row{Index: -1, Body: []byte(vectorBody), Columns: map[string]string{
		"idx": "-1", "id": "01910000-0000-7000-8000-000000000001", "time": "1772600767000000089", "kind": "ssh.hop", "outcome": "success",
		"actor_kind": "user", "iss": "https://idp.corp.example", "sub": "00u1", "email": "ann@corp.example", "login_id": "ses_a",
		"session_id": "ssh_b", "action": "", "resource": "host/db1", "source": "198.51.100.7", "node": "bastion-1"}}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	e, err := Parse(row.Body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vectorEvent(), e); diff != "" {
		t.Error(diff)
	}
}

func TestColumnNames(t *testing.T) {
	columns := Columns(7, vectorEvent())
	for _, name := range ColumnNames() {
		if _, ok := columns[name]; !ok {
			t.Errorf("column %s is not derived", name)
		}
		delete(columns, name)
	}
	if len(columns) > 0 {
		t.Errorf("derived but not listed: %v", columns)
	}
}

func TestSealNormalises(t *testing.T) {
	e := vectorEvent()
	e.Time = e.Time.In(time.FixedZone("", 7200))
	e.PolicyIDs = nil
	row, err := Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(vectorBody, `["p1"]`, `[]`, 1)
	if got := string(row.Body); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSealDetails(t *testing.T) {
	e := vectorEvent()
	e.Details = json.RawMessage(`{"command": "id"}`)
	a, err := Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Salt, b.Salt) || bytes.Equal(a.Body, b.Body) {
		t.Error("two seals of one event share a salt")
	}
	if string(a.Details) != `{"command": "id"}` || bytes.Contains(a.Body, []byte("command")) {
		t.Errorf("details are %s, body %s", a.Details, a.Body)
	}
	a.Place(3)
	if err := CheckRow(a); err != nil {
		t.Error(err)
	}
}

func TestSealRefuses(t *testing.T) {
	for name, change := range map[string]func(*Event){
		"version":             func(e *Event) { e.V = 2 },
		"no id":               func(e *Event) { e.ID = "" },
		"upper-case id":       func(e *Event) { e.ID = "01910000-0000-7000-8000-00000000000A" },
		"braced id":           func(e *Event) { e.ID = "{" + e.ID + "}" },
		"version 4 id":        func(e *Event) { e.ID = "01910000-0000-4000-8000-000000000001" },
		"no time":             func(e *Event) { e.Time = time.Time{} },
		"time out of range":   func(e *Event) { e.Time = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no kind":             func(e *Event) { e.Kind = "" },
		"kind not listed":     func(e *Event) { e.Kind = "user.create" },
		"outcome":             func(e *Event) { e.Outcome = "ok" },
		"no outcome":          func(e *Event) { e.Outcome = "" },
		"actor kind":          func(e *Event) { e.Actor.Kind = "robot" },
		"reason not UTF-8":    func(e *Event) { e.Reason = "\xff" },
		"e-mail not UTF-8":    func(e *Event) { e.Actor.Email = "a\xc0" },
		"policy ID not UTF-8": func(e *Event) { e.PolicyIDs = []string{"\x80"} },
		"digest given":        func(e *Event) { e.DetailsDigest = strings.Repeat("0", 64) },
		"envelope too large":  func(e *Event) { e.Reason = strings.Repeat("x", MaxEnvelope) },
		"details too large":   func(e *Event) { e.Details = json.RawMessage(`"` + strings.Repeat("x", MaxDetails) + `"`) },
		"details not JSON":    func(e *Event) { e.Details = json.RawMessage(`{`) },
		"details not UTF-8":   func(e *Event) { e.Details = json.RawMessage("\"\xff\"") },
	} {
		t.Run(name, func(t *testing.T) {
			e := vectorEvent()
			change(&e)
			if _, err := Seal(e); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, replace := range map[string][2]string{
		"unknown field":    {`"v":1,`, `"v":1,"x":0,`},
		"repeated field":   {`"ticket":"OPS-1"`, `"ticket":"OPS-1","ticket":"OPS-1"`},
		"missing field":    {`"action":"",`, ``},
		"other order":      {`"action":"","resource":"host/db1"`, `"resource":"host/db1","action":""`},
		"other case":       {`"ticket"`, `"Ticket"`},
		"space":            {`"v":1`, `"v": 1`},
		"other version":    {`"v":1`, `"v":2`},
		"null policies":    {`["p1"]`, `null`},
		"other escape":     {`\u003c`, `<`},
		"time with zone":   {`.000000089Z`, `.000000089+01:00`},
		"time with offset": {`.000000089Z`, `.000000089+00:00`},
		"time with zeros":  {`.000000089Z`, `.0000000890Z`},
		"outcome":          {`"success"`, `"ok"`},
		"kind":             {`"ssh.hop"`, `"ssh"`},
		"not UTF-8":        {`OPS-1`, "OPS\xff"},
		"digest":           {`"details_digest":""`, `"details_digest":"00"`},
		"data after it":    {`"details_digest":""}`, `"details_digest":""} {}`},
		"newline after it": {`"details_digest":""}`, "\"details_digest\":\"\"}\n"},
		"cut":              {`"details_digest":""}`, `"details_digest":""`},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Replace(vectorBody, replace[0], replace[1], 1)
			if body == vectorBody {
				t.Fatal("the case changes nothing")
			}
			if e, err := Parse([]byte(body)); err == nil {
				t.Errorf("parsed as %+v", e)
			}
		})
	}
}

func TestParseTakesNewerKinds(t *testing.T) {
	e, err := Parse([]byte(strings.Replace(vectorBody, "ssh.hop", "moon.land", 1)))
	if err != nil || e.Kind != "moon.land" {
		t.Errorf("got %q, %v", e.Kind, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(vectorBody))
	f.Add([]byte(`{}`))
	f.Add([]byte(strings.Replace(vectorBody, "OPS-1", `\ud800`, 1)))
	f.Add([]byte(strings.Replace(vectorBody, ".000000089Z", "Z", 1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := Parse(body)
		if err != nil {
			return
		}
		if KnownKind(e.Kind) && e.DetailsDigest == "" {
			row, err := Seal(e)
			if err != nil || !bytes.Equal(row.Body, body) {
				t.Fatalf("sealed again: %s, %v\nwant %s", row.Body, err, body)
			}
		}
		if err := CheckRow(Row{Index: 5, Body: body, Columns: Columns(5, e)}); (err == nil) != (e.DetailsDigest == "") {
			t.Fatalf("CheckRow: %v", err)
		}
	})
}

func TestNewID(t *testing.T) {
	last := ""
	for range 1000 {
		id := NewID()
		if err := CheckID(id); err != nil {
			t.Fatal(err)
		}
		if id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
}

func TestKinds(t *testing.T) {
	for _, kind := range Kinds() {
		if !KnownKind(kind) || !kindShaped(kind) {
			t.Errorf("%s is listed, but not known or not of the form noun.verb", kind)
		}
	}
	if KnownKind("user.") || KnownKind("") {
		t.Error("an unlisted kind is known")
	}
}
