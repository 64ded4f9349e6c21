package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/recording"
)

func event(kind string, outcome audit.Outcome, session, details string) audit.Event {
	e := audit.New(noon, kind, outcome)
	e.SessionID, e.Actor, e.Details = session, audit.Actor{Kind: "user", Email: "alice@example.com"}, json.RawMessage(details)
	return e
}

const startDetail = `{"host":"web-1","login":"deploy","route":"jump","client":"SSH-2.0-x","recording":{"public_key":"AAEC","header_digest":"d","recipients":["r"]}}`

func TestCollector(t *testing.T) {
	c := newCollector()
	for i, e := range []audit.Event{
		event("session.start", audit.Denied, "ssh_denied", ""),
		event("recording.heads", audit.Success, "", `{"sessions":[{"id":"ssh_2","segments":1,"bytes":10,"hash":"a"},{"id":"ssh_1","segments":1,"bytes":20,"hash":"b"}]}`),
		event("session.start", audit.Success, "ssh_1", startDetail),
		event("session.command", audit.Success, "ssh_1", `{"channel":3,"type":"exec","command":"uptime"}`),
		event("recording.heads", audit.Success, "", `{"sessions":[{"id":"ssh_1","segments":2,"bytes":30,"hash":"c"}]}`),
		event("user.login", audit.Success, "ssh_1", `["of another form"]`),
		event("session.end", audit.Success, "ssh_1", `{"recording":{"head":{"segments":2,"bytes":30,"hash":"c"},"verdict":"complete"},"bytes_in":1,"bytes_out":2,"bytes_err":3,"seconds":4.5}`),
	} {
		if err := c.add(int64(i), e); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if diff := cmp.Diff([]string{"ssh_2", "ssh_1"}, c.order); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	v := c.sessions["ssh_1"]
	if diff := cmp.Diff(startDetails{Host: "web-1", Login: "deploy", Route: "jump", Client: "SSH-2.0-x",
		Recording: &recording.Announcement{PublicKey: []byte{0, 1, 2}, HeaderDigest: "d", Recipients: []string{"r"}}}, v.started); diff != "" {
		t.Errorf("start: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(endDetails{Recording: &recording.End{Head: recording.Head{Segments: 2, Bytes: 30, Hash: "c"}, Verdict: "complete"}, In: 1, Out: 2, Err: 3, Seconds: 4.5}, v.ended); diff != "" {
		t.Errorf("end: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]recording.Head{{Segments: 1, Bytes: 20, Hash: "b"}, {Segments: 2, Bytes: 30, Hash: "c"}}, v.heads); diff != "" {
		t.Errorf("heads: -want +got\n%s", diff)
	}
	if len(v.commands) != 1 || v.commands[0].details != (commandDetails{Channel: 3, Type: "exec", Command: "uptime"}) {
		t.Errorf("commands %+v", v.commands)
	}
	if !v.recorded() || c.sessions["ssh_2"].recorded() || c.sessions["ssh_denied"] != nil {
		t.Error("recorded is wrong")
	}
	out := summary(v)
	want := shown{ID: "ssh_1", Person: "alice@example.com", Host: "web-1", Login: "deploy", Route: "jump", Client: "SSH-2.0-x", Started: noon, Ended: &noon, Outcome: "success",
		Commands: []shownOne{{Time: noon, Type: "exec", Command: "uptime"}}, BytesIn: 1, BytesOut: 2, BytesErr: 3}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("summary: -want +got\n%s", diff)
	}
}

// TestShowsBothReasons: why the person wanted the session is not covered by why it ended.
func TestShowsBothReasons(t *testing.T) {
	start, end := event("session.start", audit.Success, "ssh_1", startDetail), event("session.end", audit.Success, "ssh_1", "")
	start.Reason, start.Ticket, end.Reason = "INC-77 rollback", "INC-77", "closed by the person"
	out := summary(&evidence{id: "ssh_1", start: &start, end: &end})
	if out.Reason != start.Reason || out.Ticket != start.Ticket || out.EndReason != end.Reason {
		t.Errorf("got %+v", out)
	}
	out.Recording = "complete"
	a, text, _ := testApp(t)
	if err := a.showSession(out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"reason     INC-77 rollback\n", "ticket     INC-77\n", "because    closed by the person\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	text.Reset()
	if out.Ticket, out.EndReason = "", ""; a.showSession(out) != nil || strings.Contains(text.String(), "ticket") || strings.Contains(text.String(), "because") {
		t.Errorf("says what is not there:\n%s", text)
	}
}

// TestRefusedCommand: what policy did not let start does not read like what ran.
func TestRefusedCommand(t *testing.T) {
	c := newCollector()
	for _, e := range []audit.Event{event("session.start", audit.Success, "ssh_1", startDetail), event("session.command", audit.Denied, "ssh_1", `{"channel":3,"type":"exec","command":"rm","error":{"kind":"denied"}}`)} {
		if err := c.add(0, e); err != nil {
			t.Fatal(err)
		}
	}
	a, text, _ := testApp(t)
	if err := a.showSession(summary(c.sessions["ssh_1"])); err != nil || !strings.Contains(text.String(), "rm (refused)") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestShowsHowProgramsEnded: each by its own channel, and nothing of one that has not ended.
func TestShowsHowProgramsEnded(t *testing.T) {
	c := newCollector()
	events := []audit.Event{event("session.start", audit.Success, "ssh_1", startDetail)}
	for i, command := range []string{"true", "false", "sleep 9", "cat"} {
		events = append(events, event("session.command", audit.Success, "ssh_1", fmt.Sprintf(`{"channel":%d,"type":"exec","command":%q}`, i+1, command)))
	}
	events = append(events, event("session.command", audit.Success, "ssh_1", `{"channel":5,"type":"shell","command":""}`),
		event("session.end", audit.Success, "ssh_1", `{"exits":[{"channel":2,"status":1},{"channel":1,"status":0},{"channel":3,"signal":"TERM"},{"channel":5,"status":130}]}`))
	for _, e := range events {
		must(t, c.add(0, e))
	}
	a, text, _ := testApp(t)
	must(t, a.showSession(summary(c.sessions["ssh_1"])))
	for _, want := range []string{"  true (exit 0)\n", "  false (exit 1)\n", "  sleep 9 (ended by TERM)\n", "  cat\n", "  (exit 130)\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestWithheldCommand: a command that may not be read is no command that was empty.
func TestWithheldCommand(t *testing.T) {
	c := newCollector()
	for _, e := range []audit.Event{event("session.start", audit.Success, "ssh_1", startDetail), event("session.command", audit.Success, "ssh_1", `{"channel":3,"type":"exec","withheld":true}`)} {
		if err := c.add(0, e); err != nil {
			t.Fatal(err)
		}
	}
	out := summary(c.sessions["ssh_1"])
	if diff := cmp.Diff([]shownOne{{Time: noon, Type: "exec", Withheld: true}}, out.Commands); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	a, text, _ := testApp(t)
	if err := a.showSession(out); err != nil || !strings.Contains(text.String(), "(withheld: policy does not let you read") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestCollectorRefuses: a log that tells two stories of a session is not evidence of one.
func TestCollectorRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		events []audit.Event
		want   string
	}{
		"two starts":     {[]audit.Event{event("session.start", audit.Success, "ssh_1", startDetail), event("session.start", audit.Success, "ssh_1", startDetail)}, "a second time"},
		"two ends":       {[]audit.Event{event("session.end", audit.Success, "ssh_1", ""), event("session.end", audit.Failure, "ssh_1", "")}, "a second time"},
		"a bad start":    {[]audit.Event{event("session.start", audit.Success, "ssh_1", `{"host":7}`)}, "session.start"},
		"a bad end":      {[]audit.Event{event("session.end", audit.Success, "ssh_1", `[]`)}, "session.end"},
		"a bad command":  {[]audit.Event{event("session.command", audit.Success, "ssh_1", `{"command":{}}`)}, "session.command"},
		"bad heads":      {[]audit.Event{event("recording.heads", audit.Success, "", `{"sessions":"x"}`)}, "recording.heads"},
		"heads too long": {[]audit.Event{event("recording.heads", audit.Success, "", `{"sessions":[{"id":"x","bytes":99999999999999999999}]}`)}, "recording.heads"},
	} {
		t.Run(name, func(t *testing.T) {
			collected := newCollector()
			var err error
			for i, e := range c.events {
				if i == len(c.events)-1 {
					err = collected.add(int64(i), e)
				} else if err := collected.add(int64(i), e); err != nil {
					t.Fatal(err)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSound goes through what a verdict can be beside what the log says of the session's end.
func TestSound(t *testing.T) {
	ended := func(verdict string) *evidence {
		return &evidence{end: &audit.Event{}, ended: endDetails{Recording: &recording.End{Verdict: verdict}}}
	}
	living, witnessed, silent := &evidence{}, &evidence{heads: []recording.Head{{}}}, &evidence{end: &audit.Event{}}
	for _, c := range []struct {
		name                                    string
		v                                       *evidence
		complete, omitted, interrupted, missing bool
	}{
		{"lives", living, true, true, true, true},
		{"lives, witnessed", witnessed, true, true, true, false},
		{"ended complete", ended(recording.StatusComplete), true, false, false, false},
		{"ended with content left out", ended(recording.StatusOmitted), true, true, false, false},
		{"ended interrupted", ended(recording.StatusInterrupted), true, false, true, false},
		{"ended missing", ended(recording.StatusMissing), true, false, false, true},
		{"ended, and nothing is said of it", silent, true, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for status, want := range map[string]bool{recording.StatusComplete: c.complete, recording.StatusOmitted: c.omitted, recording.StatusInterrupted: c.interrupted, recording.StatusMissing: c.missing,
				"forged at 7": false, "gap at 7": false, "": false, "Complete": false} {
				if got := c.v.sound(recording.Verdict{Status: status}); got != want {
					t.Errorf("%q is %v, want %v", status, got, want)
				}
			}
		})
	}
}

// TestUnannounced: where the details of session.start are gone, or a broker withholds them, there is a
// finding and no verdict, and nothing is opened.
func TestUnannounced(t *testing.T) {
	for name, details := range map[string]string{"none": "", "empty": "{}", "null": `{"recording":null}`} {
		t.Run(name, func(t *testing.T) {
			c := newCollector()
			if err := c.add(0, event("session.start", audit.Success, "ssh_1", details)); err != nil {
				t.Fatal(err)
			}
			v := c.sessions["ssh_1"]
			verdict, err := (&session{}).verdict(t.Context(), v)
			if err != nil || verdict.Status != unannounced || verdict.Detail == "" || v.sound(verdict) {
				t.Errorf("%+v, %v", verdict, err)
			}
			tp := &tape{evidence: v}
			if err := tp.check(); err == nil || !strings.Contains(err.Error(), unannounced) {
				t.Errorf("opened: %v", err)
			}
			a, _, _ := testApp(t)
			if err := a.showSession(summary(v)); err != nil {
				t.Error(err)
			}
		})
	}
}
