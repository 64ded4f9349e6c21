//go:build linux

package clients

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// evidence is what a reviewer finds of one row.
type evidence struct {
	sessions         int
	commands         []string // type and command
	forwards         []string // kinds that were refused
	in, out, errored int64

	read, written []string // digests of files that went over in one piece
}

// mark is the index of the newest event: what comes behind it is the next row's.
func (w *world) mark(t testing.TB) string {
	t.Helper()
	events := w.reviewer.Events("--newest", "--limit", "1")
	if len(events) == 0 {
		t.Fatal("the log is empty")
	}
	return field(events[0], "idx")
}

// found waits until the sessions that began behind mark have ended, and judges each recording.
func (w *world) found(t testing.TB, mark string) evidence {
	t.Helper()
	var out evidence
	var ids []string
	devtest.Eventually(t, patience, "sessions do not end", func() error {
		out, ids = evidence{}, nil
		ended := map[string]bool{}
		for _, v := range w.reviewer.Events("--after", mark, "--user", alice) {
			switch id := field(v, "session_id"); field(v, "kind") {
			case "session.start":
				ids = append(ids, id)
			case "session.end":
				ended[id] = true
			case "session.command":
				out.commands = append(out.commands, field(v, "details.type")+" "+field(v, "details.command"))
			case "sftp.read":
				out.read = append(out.read, digests(v, "read")...)
			case "sftp.write":
				out.written = append(out.written, digests(v, "written")...)
			case "forward.open":
				out.forwards = append(out.forwards, field(v, "outcome")+" "+field(v, "details.type"))
			}
		}
		if slices.ContainsFunc(ids, func(id string) bool { return !ended[id] }) {
			return errNotYet
		}
		return nil
	})
	out.sessions = len(ids)
	for _, id := range ids {
		w.judge(t, id, &out)
	}
	return out
}

// digests are those of the runs that went over in a direction.
func digests(event map[string]any, direction string) (out []string) {
	details, _ := event["details"].(map[string]any)
	transfer, _ := details[direction].(map[string]any)
	runs, _ := transfer["runs"].([]any)
	for _, run := range runs {
		if r, ok := run.(map[string]any); ok {
			out = append(out, field(r, "sha256"))
		}
	}
	return out
}

// judge wants the recording of a session whole.
func (w *world) judge(t testing.TB, id string, sum *evidence) {
	t.Helper()
	var v struct {
		Person, Host, Recording string
		BytesIn                 int64 `json:"bytes_in"`
		BytesOut                int64 `json:"bytes_out"`
		BytesErr                int64 `json:"bytes_err"`
	}
	r := w.reviewer.Sega("audit", "show", id, "--json")
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil || r.Code != 0 {
		t.Fatalf("audit show: exit %d, %v\n%s", r.Code, err, r.Err)
	}
	if v.Person != alice || v.Host != w.Host.Name || v.Recording != "complete" {
		t.Errorf("session %s: %+v", id, v)
	}
	sum.in, sum.out, sum.errored = sum.in+v.BytesIn, sum.out+v.BytesOut, sum.errored+v.BytesErr
}

// has fails the test unless the log names a start of each.
func (e evidence) has(t testing.TB, commands ...string) {
	t.Helper()
	for _, want := range commands {
		if !slices.ContainsFunc(e.commands, func(c string) bool { return strings.HasPrefix(c, want) }) {
			t.Errorf("no %q among %q", want, e.commands)
		}
	}
}

func (e evidence) String() string {
	return fmt.Sprintf("%d sessions, %d programs, %d in, %d out, %d err", e.sessions, len(e.commands), e.in, e.out, e.errored)
}
