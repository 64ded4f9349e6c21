package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/state"
)

// TestSFTPByPolicy: what policy says of SFTP reaches the bastion and the log.
func TestSFTPByPolicy(t *testing.T) {
	const hosts = `@id("hosts") permit (principal, action == Action::"connect", resource);`
	for name, tc := range map[string]struct {
		policies string
		want     api.ChannelGrant
		details  string // beside what was asked
	}{
		"allowed":           {hosts, api.ChannelGrant{Allow: true}, `{}`},
		"denied":            {hosts + `@id("no") @reason("files go by the pipeline") forbid (principal, action == Action::"connect", resource) when { context.channel == "sftp" };`, api.ChannelGrant{Reason: "files go by the pipeline"}, `{"error":{"kind":"denied","detail":"files go by the pipeline"}}`},
		"read-only":         {hosts + `@id("no") forbid (principal, action == Action::"connect", resource) when { context.channel == "sftp-write" };`, api.ChannelGrant{Allow: true, ReadOnly: true}, `{"read_only":true}`},
		"permitted alone":   {`@id("some") permit (principal, action == Action::"connect", resource) when { context.channel == "sftp" };`, api.ChannelGrant{Allow: true, ReadOnly: true}, `{"read_only":true}`},
		"policy in error":   {hosts + `@id("bad") forbid (principal, action == Action::"connect", resource) when { context.channel == "sftp-write" && 9223372036854775807 + 1 > 0 };`, api.ChannelGrant{Allow: true, ReadOnly: true}, `{"read_only":true}`},
		"content left out":  {hosts + `@id("out") permit (principal, action == Action::"omitContent", resource);`, api.ChannelGrant{Allow: true, OmitContent: true}, `{"omit_content":true}`},
		"in error is no no": {hosts + `@id("out") permit (principal, action == Action::"omitContent", resource) when { 9223372036854775807 + 1 > 0 };`, api.ChannelGrant{Allow: true}, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, bastion := channelWorld(t, tc.policies)
			got, event := bastion.ask(asking(func(r *api.ChannelRequest) { r.Type, r.Command = api.ChannelSubsystem, api.SubsystemSFTP }))
			if !strings.Contains(got.Reason, tc.want.Reason) {
				t.Errorf("the reason is %q", got.Reason)
			}
			got.Reason, got.Hint, got.Event, tc.want.Reason = "", "", "", ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			var details, want map[string]any
			if err := json.Unmarshal(event.Details, &details); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tc.details), &want); err != nil {
				t.Fatal(err)
			}
			for _, asked := range []string{"channel", "type", "command"} {
				delete(details, asked)
			}
			if e, is := details["error"].(map[string]any); is && strings.Contains(e["detail"].(string), "files go by the pipeline") {
				e["detail"] = "files go by the pipeline"
			}
			if diff := cmp.Diff(want, details); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
		})
	}
}

const someSHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func fileReport(kind, details string) []api.Report {
	return []api.Report{{ID: audit.NewID(), Kind: kind, Outcome: "success", SessionID: "ssh_live", Details: json.RawMessage(details)}}
}

// TestFileReports: a bastion reports operations on files of sessions of its own, in their form; who it
// was is the broker's word, and no secret in a path gets into the log.
func TestFileReports(t *testing.T) {
	w, _, bastion := channelWorld(t, channelPolicies)
	other := w.bastionNamed("bastion-2")
	runs := func(n int) string {
		one := `{"offset":0,"bytes":1,"sha256":"` + someSHA256 + `"}`
		return fmt.Sprintf(`{"protocol":"sftp","written":{"bytes":%d,"runs":[%s]}}`, n, strings.TrimSuffix(strings.Repeat(one+",", n), ","))
	}
	for name, tc := range map[string]struct {
		by      caller
		report  []api.Report
		code    int
		details string // of the event
	}{
		"a write": {bastion, fileReport("sftp.write", `{"channel":2,"number":7,"protocol":"sftp","path":"/srv/a","flags":"write","written":{"bytes":4,"runs":[{"offset":0,"bytes":4,"sha256":"`+someSHA256+`"}]}}`), 200,
			`{"channel":2,"flags":"write","number":7,"path":"/srv/a","protocol":"sftp","written":{"bytes":4,"runs":[{"bytes":4,"offset":0,"sha256":"` + someSHA256 + `"}]}}`},
		"a secret in a path":  {bastion, fileReport("sftp.rename", `{"channel":1,"number":1,"protocol":"sftp","path":"/a/password=hunter2","to":"/b"}`), 200, `{"channel":1,"number":1,"path":"/a/password=[redacted:password]","protocol":"sftp","redacted":1,"to":"/b"}`},
		"sixteen runs":        {bastion, fileReport("sftp.write", runs(16)), 200, ""},
		"another bastion's":   {other, fileReport("sftp.remove", `{"protocol":"sftp"}`), 404, ""},
		"no session":          {bastion, []api.Report{{ID: audit.NewID(), Kind: "sftp.remove", Outcome: "success", Details: json.RawMessage(`{"protocol":"sftp"}`)}}, 400, ""},
		"an intent":           {bastion, []api.Report{{ID: audit.NewID(), Kind: "sftp.remove", Outcome: "intent", SessionID: "ssh_live", Details: json.RawMessage(`{"protocol":"sftp"}`)}}, 400, ""},
		"an unknown kind":     {bastion, fileReport("sftp.shred", `{"protocol":"sftp"}`), 400, ""},
		"no details":          {bastion, fileReport("sftp.remove", ""), 400, ""},
		"null":                {bastion, fileReport("sftp.remove", "null"), 400, ""},
		"another protocol":    {bastion, fileReport("sftp.remove", `{"protocol":"ftp"}`), 400, ""},
		"a field of its own":  {bastion, fileReport("sftp.remove", `{"protocol":"sftp","note":"x"}`), 400, ""},
		"a long path":         {bastion, fileReport("sftp.remove", `{"protocol":"sftp","path":"`+strings.Repeat("a", maxFilePath+1)+`"}`), 400, ""},
		"seventeen runs":      {bastion, fileReport("sftp.write", runs(17)), 400, ""},
		"no runs":             {bastion, fileReport("sftp.write", `{"protocol":"sftp","written":{"bytes":0,"runs":[]}}`), 400, ""},
		"runs that lack some": {bastion, fileReport("sftp.write", `{"protocol":"sftp","written":{"bytes":5,"runs":[{"offset":0,"bytes":4,"sha256":"`+someSHA256+`"}]}}`), 400, ""},
		"no digest":           {bastion, fileReport("sftp.write", `{"protocol":"sftp","read":{"bytes":4,"runs":[{"offset":0,"bytes":4,"sha256":"abc"}]}}`), 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.events())
			if rec := tc.by.do("POST", api.RouteReport, tc.report); rec.Code != tc.code {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			all := w.events()
			last := all[len(all)-1]
			if tc.code != 200 {
				if last.Kind == tc.report[0].Kind {
					t.Error("it is in the log")
				}
				return
			}
			if len(all) != before+1 || last.Kind != tc.report[0].Kind || last.Actor.Sub != "alice" || last.Resource != "host/web-1" || last.SessionID != "ssh_live" || last.Node != "bastion-1" {
				t.Errorf("event %+v", last)
			}
			if tc.details != "" && string(last.Details) != tc.details {
				t.Errorf("details %s", last.Details)
			}
			if rec := tc.by.do("POST", api.RouteReport, tc.report); rec.Code != 200 || len(w.events()) != len(all) {
				t.Errorf("a repeat is a second event, or refused: %d", rec.Code)
			}
		})
	}
}

// TestFileReportsOfTheEnded: what a bastion has kept of a session reaches the log after its end, too.
func TestFileReportsOfTheEnded(t *testing.T) {
	w, alice, bastion := channelWorld(t, channelPolicies)
	w.liveSSH("ssh_over", alice, state.SSHEnded)
	report := fileReport("sftp.remove", `{"channel":1,"number":1,"protocol":"sftp","path":"/a"}`)
	report[0].SessionID, report[0].Outcome = "ssh_over", "unknown"
	if rec := bastion.do("POST", api.RouteReport, report); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if all := w.events(); all[len(all)-1].Kind != "sftp.remove" || all[len(all)-1].Outcome != audit.Unknown {
		t.Errorf("the log ends with %+v", all[len(all)-1])
	}
}
