package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestPlanInWords: what a role has given out is one line, however often it was fetched; a chain and the console are others.
func TestPlanInWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	var out bytes.Buffer
	showPlan(&out, api.Plan{Person: api.Person{Subject: "00u1", Email: "alice@example.com"}, Blocks: true, Sessions: []api.SessionInfo{{ID: "ses_1", Kind: "login"}}, AWS: []api.Outstanding{
		{What: "dev", Until: at}, {What: "ops (through dev)", Until: at.Add(time.Minute)}, {What: "dev", Until: at.Add(time.Hour)}, {What: "dev (console)", Until: at.Add(2 * time.Minute)}, {What: "dev", Until: at.Add(time.Minute)}}})
	want := `alice@example.com (00u1)
  is let in no more until: sega unblock user
  ends        login ses_1
  lives on    AWS credentials of ops (through dev) until 2026-01-02 03:05:05: AWS does not take them back
  lives on    AWS credentials of dev (console) until 2026-01-02 03:06:05: AWS does not take them back
  lives on    AWS credentials of dev, 3 of them, the last until 2026-01-02 04:04:05: AWS does not take them back
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestPlanOfThings: a certificate, with its holder where it has one, and a host.
func TestPlanOfThings(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	certs := []api.Outstanding{{What: "access 7", Until: at}}
	live := []api.SessionInfo{{ID: "ssh_1", Kind: "ssh", Login: "deploy", Host: "web-1"}}
	for name, tt := range map[string]struct {
		plan api.Plan
		want string
	}{
		"a person's certificate": {api.Plan{What: "access certificate 7", Person: api.Person{Subject: "00u1", Email: "alice@example.com"}, Sessions: live, Certificates: certs},
			"access certificate 7, held by alice@example.com (00u1)\n  ends        ssh   ssh_1 deploy@web-1\n  worthless   1 SSH certificate, which would have lived until 2026-01-02 03:04:05\n"},
		"nobody's certificate": {api.Plan{What: "host certificate 7 of web-1\x1b[2J", Certificates: certs},
			"host certificate 7 of web-1\\u001b[2J\n  worthless   1 SSH certificate, which would have lived until 2026-01-02 03:04:05\n"},
		"a host": {api.Plan{What: "host web-1", Blocks: true, Sessions: live}, "host web-1\n  is opened to nobody until: sega unblock host\n  ends        ssh   ssh_1 deploy@web-1\n"},
	} {
		var out bytes.Buffer
		if showPlan(&out, tt.plan); out.String() != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, out.String(), tt.want)
		}
	}
}

// TestReceiptInWords: each point says what it did, or what it does when at the latest; a name from elsewhere stays text.
func TestReceiptInWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	var out bytes.Buffer
	err := showReceipt(&out, api.Receipt{EventID: "evt", Index: 7, Time: at, Points: []api.Point{
		{Kind: api.PointAgent, Name: "agent of a\x1b[2J@example.com (ses_1)", Acknowledged: true, Millis: 4, Closed: 3},
		{Kind: api.PointAgent, Name: "agent of b (ses_2)", Deadline: at},
		{Kind: api.PointBastion, Name: "b1", Acknowledged: true, Millis: 3, Closed: 1},
		{Kind: api.PointBastion, Name: "b2", Deadline: at},
		{Name: "b3", Acknowledged: true}, // of a broker that names no kinds
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"revoked at 2026-01-02 03:04:05, event evt, log index 7",
		"WHERE STATE",
		`agent of a\u001b[2J@example.com (ses_1) in force after 4 ms, 3 credentials dropped`,
		"agent of b (ses_2) NOT acknowledged; drops everything by 2026-01-02 03:04:05 at the latest",
		"b1 in force after 3 ms, 1 session cut",
		"b2 NOT acknowledged; closes everything by 2026-01-02 03:04:05 at the latest",
		"b3 in force after 0 ms, 0 sessions cut",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
