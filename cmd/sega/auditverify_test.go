package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sega/audit"
	"sega/broker/api"
)

func TestVerifyWhole(t *testing.T) {
	b := newLogBroker(t, audit.SegmentSize+30)
	r := b.reviewer()
	code, v := r.verify()
	if code != 0 || !v.OK || v.Mode != modeWhole || v.Events != audit.SegmentSize+30 || v.Size != v.Events || v.RolledUp != audit.SegmentSize || v.Rollups < 3 || len(v.Problems) != 0 {
		t.Fatalf("exit %d, %+v\n%s", code, v, r.talk)
	}
	b.grow(5)
	if code := r.sega("audit", "verify"); code != 0 || !strings.Contains(r.out.String(), "ok   2083 events, root ") || !strings.Contains(r.out.String(), "rollups of the first 2048 events") {
		t.Errorf("exit %d\n%s%s", code, r.out, r.talk)
	}
}

// lie is what a broker, or the owner of its database, may do.
type lie struct {
	name  string
	do    func(b *logBroker)
	want  audit.Finding
	since bool // what happened before the last verification shows there too
}

func lies() []lie {
	rows := func(f func(r []audit.Row) []audit.Row) func(*logBroker) { return func(b *logBroker) { b.serve = f } }
	renumber := func(r []audit.Row) []audit.Row {
		for i := range r {
			r[i].Place(int64(i))
		}
		return r
	}
	made := func() audit.Row { row, _ := audit.Seal(event(audit.KindUserLogin, audit.Success, "", "")); return row }
	return []lie{
		{"rewritten", rows(func(r []audit.Row) []audit.Row {
			e, _ := audit.Parse(r[25].Body)
			e.Reason, e.DetailsDigest = "x", ""
			row, _ := audit.Seal(e)
			row.Place(25)
			r[25] = row
			return r
		}), audit.FindingRewritten, true},
		{"dropped", rows(func(r []audit.Row) []audit.Row { return slices.Delete(r, 25, 26) }), audit.FindingDropped, true},
		{"dropped, renumbered", rows(func(r []audit.Row) []audit.Row { return renumber(slices.Delete(r, 25, 26)) }), audit.FindingDropped, true},
		{"reordered", rows(func(r []audit.Row) []audit.Row { r[25], r[26] = r[26], r[25]; return r }), audit.FindingReordered, true},
		{"reordered, renumbered", rows(func(r []audit.Row) []audit.Row { r[25], r[26] = r[26], r[25]; return renumber(r) }), audit.FindingReordered, true},
		{"inserted, renumbered", rows(func(r []audit.Row) []audit.Row { return renumber(slices.Insert(r, 25, made())) }), audit.FindingInserted, true},
		{"sent twice", rows(func(r []audit.Row) []audit.Row { return slices.Insert(r, 26, r[25]) }), audit.FindingInserted, true},
		{"truncated", rows(func(r []audit.Row) []audit.Row { return r[:25] }), audit.FindingTruncated, true},
		{"a column", rows(func(r []audit.Row) []audit.Row { r[25].Columns["email"] = "eve@example.com"; return r }), audit.FindingColumn, true},
		{"details", rows(func(r []audit.Row) []audit.Row { r[28].Details[0] ^= 1; return r }), audit.FindingDetails, true},
		{"no event", rows(func(r []audit.Row) []audit.Row { r[25].Body = []byte("{}"); return r }), audit.FindingMalformed, true},
		{"rewritten before", rows(func(r []audit.Row) []audit.Row {
			r[5].Body = []byte(strings.Replace(string(r[5].Body), "db1", "db2", 1))
			return r
		}), audit.FindingRewritten, false},
		{"forked", func(b *logBroker) { b.rewrite(5) }, audit.FindingForked, true},
		{"rolled back", func(b *logBroker) { b.rows, b.hashes, b.edge = nil, nil, audit.Frontier{}; b.sign(); b.grow(10) }, audit.FindingRolledBack, true},
		{"forged checkpoint", func(b *logBroker) {
			other, _ := audit.GenerateLogKey(b.key.Name())
			b.key = other
			b.sign()
		}, audit.FindingForged, true},
		{"not a checkpoint", func(b *logBroker) { b.note = []byte("sega.test/audit\n30\nAAAA\n\n— sega.test/audit AAAA\n") }, audit.FindingForged, true},
		{"rollups", func(b *logBroker) { b.rollups = func(upTo *int64, _ *[]audit.Rollup) { *upTo = audit.SegmentSize } }, audit.FindingRollup, false},
		{"rollups made up", func(b *logBroker) {
			b.rollups = func(_ *int64, r *[]audit.Rollup) {
				*r = append(*r, audit.Rollup{RollupKey: audit.RollupKey{Cube: audit.CubeUser}, N: 1})
			}
		}, audit.FindingRollup, false},
	}
}

// TestVerifyFindsLies: each lie is found, and named as what it is, in the whole log and, where
// it shows there, in what came since the last verification.
func TestVerifyFindsLies(t *testing.T) {
	for _, l := range lies() {
		for _, mode := range []string{modeWhole, modeSince} {
			t.Run(l.name+"/"+mode, func(t *testing.T) {
				b := newLogBroker(t, 20)
				r := b.reviewer()
				if code, _ := r.verify(); code != 0 {
					t.Fatalf("exit %d: %s", code, r.talk)
				}
				b.grow(20)
				verifyLie(t, b, r, l, mode)
			})
		}
	}
}

// verifyLie lets a machine that knows 20 events judge a log of 40 about which the broker lies.
func verifyLie(t *testing.T, b *logBroker, r *reviewer, l lie, mode string) {
	t.Helper()
	before := r.remembered()
	l.do(b)
	args := []string{}
	if mode == modeSince {
		args = append(args, "--since-last")
	}
	code, v := r.verify(args...)
	if mode == modeSince && !l.since {
		if code != 0 {
			t.Errorf("exit %d: %+v", code, v)
		}
		return
	}
	if code != 1 || v.OK || !v.has(l.want) || v.Found < len(v.Problems) {
		t.Errorf("exit %d, want %s among %+v\n%s", code, l.want, v.Problems, r.talk)
	}
	if l.want != audit.FindingForked && v.has(audit.FindingForked) {
		t.Errorf("it has signed one history, and is said to have signed two: %+v", v.Problems)
	}
	if after := r.remembered(); after != before {
		t.Errorf("a log that does not verify is remembered: %s", after)
	}
	// What is printed for people names it too.
	if code := r.sega(append([]string{"audit", "verify"}, args...)...); code != 1 || !strings.Contains(r.out.String(), "BAD  "+string(l.want)) {
		t.Errorf("exit %d, printed is\n%s%s", code, r.out, r.talk)
	}
}

// TestVerifyPrintsWhatIsSound: beside what is wrong, which comes last, stands how much was read and is sound.
func TestVerifyPrintsWhatIsSound(t *testing.T) {
	const root, saw, rollups, none = "ok   22 events, root ", "ok   consistent with 1 checkpoints", "ok   0 rollups of the first 0 events", "ok   2 recordings, 1 of them"
	for name, c := range map[string]struct {
		do   func(b *logBroker)
		want []string // beginnings of the lines
	}{
		"a column": {func(b *logBroker) {
			b.serve = func(r []audit.Row) []audit.Row { r[5].Columns["email"] = "eve@example.com"; return r }
		},
			[]string{"     22 events, of 22 that are signed; not all are sound", saw, rollups, none, "     in ", "BAD  column: event 5 "}},
		"cut": {func(b *logBroker) { b.serve = func(r []audit.Row) []audit.Row { return r[:15] } },
			[]string{"     15 events, of 22 that are signed; not all are sound", saw, rollups, "ok   0 recordings, 0 of", "     in ", "BAD  truncated: ", "BAD  root: "}},
		"a rollup": {func(b *logBroker) {
			b.rollups = func(_ *int64, r *[]audit.Rollup) {
				*r = append(*r, audit.Rollup{RollupKey: audit.RollupKey{Cube: audit.CubeUser}, N: 1})
			}
		},
			[]string{root, saw, none, "     in ", "BAD  rollup: "}},
		"a recording": {func(b *logBroker) { flip(b, "ssh_1") },
			[]string{root, saw, rollups, "ok   1 of 2 recordings, 1 of", "     in ", "BAD  recording: recording ssh_1: "}},
		"all recordings": {func(b *logBroker) { flip(b, "") },
			[]string{root, saw, rollups, "     0 of 2 recordings, 0 of", "     in ", "BAD  recording: recording ssh_1: ", "BAD  recording: recording ssh_2: "}},
		"forged": {func(b *logBroker) { b.note = []byte("x") }, []string{"BAD  forged-checkpoint: "}},
		"forked while recordings are read": {func(b *logBroker) {
			b.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/v1/recordings/") {
					w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString([]byte("x")))
				}
				return false
			}
		},
			[]string{root, rollups, "-    recordings were not checked", "     in ", "BAD  forged-checkpoint: "}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLogBroker(t, 19)
			b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
			b.append(event(audit.KindSessionEnd, audit.Success, "ssh_1", `{"recording":{"head":{"segments":0,"bytes":0,"hash":""},"verdict":"missing"}}`))
			b.append(event(audit.KindSessionStart, audit.Success, "ssh_2", recordedDetail))
			r := b.reviewer()
			if code, _ := r.verify(); code != 0 {
				t.Fatal(r.talk)
			}
			c.do(b)
			code := r.sega("audit", "verify")
			lines := strings.Split(strings.TrimSuffix(r.out.String(), "\n"), "\n")
			if code != 1 || !slices.EqualFunc(lines, c.want, strings.HasPrefix) {
				t.Errorf("exit %d, want %q\n%s%s", code, c.want, r.out, r.talk)
			}
		})
	}
}

// flip makes the broker hand out another recording of a session, or of all.
func flip(b *logBroker, id string) {
	b.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/recordings/"+id) {
			return false
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte("flipped"))
		return true
	}
}

// remembered is the file of the last verification.
func (r *reviewer) remembered() string {
	home, _ := r.app.home()
	data, err := os.ReadFile(filepath.Join(home, verifiedFile(r.b.server.URL)))
	if err != nil {
		return ""
	}
	return string(data)
}

func TestSinceLast(t *testing.T) {
	b := newLogBroker(t, 300)
	r := b.reviewer()
	if code, _ := r.verify("--since-last"); code != 1 || !strings.Contains(r.talk.String(), "run: sega audit verify") {
		t.Errorf("without a last time: exit %d: %s", code, r.talk)
	}
	if code, _ := r.verify("--no-recordings"); code != 0 || r.remembered() != "" {
		t.Errorf("exit %d; without recordings it is remembered: %s", code, r.remembered())
	}
	if code, _ := r.verify(); code != 0 || !strings.Contains(r.remembered(), `sega.test/audit\n300\n`) {
		t.Fatalf("exit %d: %s", code, r.remembered())
	}
	for _, more := range []int{0, 1, 255, 3} {
		from := int64(len(b.rows))
		b.grow(more)
		b.asked = nil
		code, v := r.verify("--since-last")
		if code != 0 || v.Mode != modeSince || v.From != from || v.Events != int64(more) || v.Size != from+int64(more) || v.Since == nil || v.Remembered == 0 {
			t.Fatalf("exit %d: %+v %s", code, v, r.talk)
		}
		for _, path := range b.asked {
			if strings.HasPrefix(path, api.RouteLog) && path != fmt.Sprintf("%s?from=%d&to=%d", api.RouteLog, from, from+int64(more)) || strings.HasPrefix(path, api.RouteRollups) {
				t.Errorf("it asked for %s", path)
			}
		}
	}
	if code := r.sega("audit", "verify", "--since-last"); code != 0 || !strings.Contains(r.out.String(), "ok   0 events since the 559 that were verified on 2030-01-02") {
		t.Errorf("exit %d\n%s%s", code, r.out, r.talk)
	}
}

// TestSinceLastAfterAFailure: what only the whole log shows is not forgotten when less is read.
func TestSinceLastAfterAFailure(t *testing.T) {
	column := func(b *logBroker) {
		b.serve = func(r []audit.Row) []audit.Row { r[5].Columns["email"] = "eve@example.com"; return r }
	}
	recording := func(b *logBroker) { flip(b, "") }
	for name, c := range map[string]struct {
		do   func(b *logBroker)
		args []string
	}{"a column": {column, nil}, "a column, the log alone": {column, []string{"--no-recordings"}}, "a recording": {recording, nil}} {
		t.Run(name, func(t *testing.T) {
			b := newLogBroker(t, 20)
			b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
			b.append(event(audit.KindSessionEnd, audit.Success, "ssh_1", `{"recording":{"head":{"segments":0,"bytes":0,"hash":""},"verdict":"missing"}}`))
			r := b.reviewer()
			if code, v := r.verify(); code != 0 {
				t.Fatalf("exit %d: %+v %s", code, v, r.talk)
			}
			b.grow(3)
			c.do(b)
			before := r.remembered()
			if code, _ := r.verify(c.args...); code != 1 {
				t.Fatalf("exit %d: %s", code, r.talk)
			}
			if code, v := r.verify("--since-last"); code != 1 || v.OK || v.Found != 0 || v.Failed == nil || !v.Failed.Equal(noon) || v.Events != 3 {
				t.Errorf("exit %d: %+v", code, v)
			}
			if code := r.sega("audit", "verify", "--since-last"); code != 1 || !strings.Contains(r.out.String(), "BAD  the last verification of the whole log, on "+stamp(noon)+", failed") || !strings.Contains(r.talk.String(), "run: sega audit verify") {
				t.Errorf("exit %d\n%s%s", code, r.out, r.talk)
			}
			if after := r.remembered(); after != before {
				t.Errorf("it is remembered: %s", after)
			}
			b.serve, b.answer = nil, nil
			if code, _ := r.verify("--no-recordings"); code != 0 {
				t.Errorf("exit %d: %s", code, r.talk)
			}
			if code, _ := r.verify("--since-last"); code != 1 {
				t.Errorf("the log alone is taken for the whole: exit %d", code)
			}
			for _, args := range [][]string{nil, {"--since-last"}} {
				if code, v := r.verify(args...); code != 0 || v.Failed != nil {
					t.Errorf("%q: exit %d: %+v %s", args, code, v, r.talk)
				}
			}
			if err := r.app.writeFile(failedFile(b.server.URL), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, _ := r.verify("--since-last"); code != 1 || !strings.Contains(r.talk.String(), "failed-") {
				t.Errorf("exit %d: %s", code, r.talk)
			}
		})
	}
}

// TestSinceLastAfterAForgery: that no event was read makes it no less of a failure.
func TestSinceLastAfterAForgery(t *testing.T) {
	b := newLogBroker(t, 20)
	r := b.reviewer()
	if code, _ := r.verify(); code != 0 {
		t.Fatal(r.talk)
	}
	sound := b.note
	other, err := audit.GenerateLogKey(b.key.Name())
	if err != nil {
		t.Fatal(err)
	}
	if b.note, err = audit.SignCheckpoint(other.Name(), b.edge.Tree(), other); err != nil {
		t.Fatal(err)
	}
	if code, v := r.verify(); code != 1 || !v.has(audit.FindingForged) {
		t.Fatalf("exit %d: %+v", code, v)
	}
	b.note = sound
	if code, v := r.verify("--since-last"); code != 1 || v.Failed == nil {
		t.Errorf("exit %d: %+v", code, v)
	}
}

// TestSinceLastOfLiars: what a broker may say of the edge that is gone on from.
func TestSinceLastOfLiars(t *testing.T) {
	for name, do := range map[string]func(b *logBroker){
		"another tile": func(b *logBroker) {
			b.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/tlog/tile/0/000") {
					return false
				}
				w.Header().Set("Content-Type", "application/octet-stream")
				_, _ = w.Write(make([]byte, 20*32))
				return true
			}
		},
		"another proof": func(b *logBroker) {
			b.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == api.RouteConsistency {
					b.json(w, api.Consistency{From: 20, To: 40, Proof: [][]byte{make([]byte, 32)}})
				}
				return r.URL.Path == api.RouteConsistency
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLogBroker(t, 20)
			r := b.reviewer()
			if code, _ := r.verify(); code != 0 {
				t.Fatal(r.talk)
			}
			b.grow(20)
			do(b)
			if code, v := r.verify("--since-last"); code != 1 || !v.has(audit.FindingForked) {
				t.Errorf("exit %d: %+v\n%s", code, v, r.talk)
			}
		})
	}
}

// TestRememberedDamaged: what cannot be read is not gone on from, and says what to do.
func TestRememberedDamaged(t *testing.T) {
	b := newLogBroker(t, 20)
	r := b.reviewer()
	if code, _ := r.verify(); code != 0 {
		t.Fatal(r.talk)
	}
	good := r.remembered()
	other := newLogBroker(t, 3)
	for name, text := range map[string]string{"empty": "", "cut": good[:len(good)/2], "another version": strings.Replace(good, `"v": 1`, `"v": 2`, 1),
		"no checkpoint": `{"v":1}`, "of another key": strings.Replace(good, strings.Split(good, `"checkpoint": "`)[1][:60], strings.ReplaceAll(string(other.note), "\n", `\n`)[:60], 1)} {
		if err := r.app.writeFile(verifiedFile(b.server.URL), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, v := r.verify("--since-last"); code != 1 || v.Found != 0 || !strings.Contains(r.talk.String(), "sega audit verify") {
			t.Errorf("%s: exit %d: %+v %s", name, code, v, r.talk)
		}
	}
	if code, _ := r.verify(); code != 0 || r.remembered() == "" {
		t.Errorf("the whole log does not mend it: %d", code)
	}
	if code, _ := r.verify("--since-last"); code != 0 {
		t.Errorf("exit %d: %s", code, r.talk)
	}
}

// recordedDetail announces a recording under a key that could be one.
var recordedDetail = strings.Replace(startDetail, "AAEC", base64.StdEncoding.EncodeToString(make([]byte, 32)), 1)

// TestSinceLastKeepsSessions: a session that lived at the last verification is judged by what comes.
func TestSinceLastKeepsSessions(t *testing.T) {
	b := newLogBroker(t, 5)
	b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
	b.append(event(audit.KindSessionStart, audit.Success, "ssh_2", recordedDetail))
	r := b.reviewer()
	if code, v := r.verify(); code != 0 || v.Live != 2 {
		t.Fatalf("exit %d: %+v", code, v)
	}
	b.append(event(audit.KindSessionEnd, audit.Success, "ssh_2", `{"recording":{"head":{"segments":0,"bytes":0,"hash":""},"verdict":"missing"}}`))
	if code, v := r.verify("--since-last"); code != 0 || v.Recordings != 2 || v.Live != 1 {
		t.Fatalf("exit %d: %+v %s", code, v, r.talk)
	}
	b.append(event(audit.KindSessionEnd, audit.Success, "ssh_1", `{"recording":{"head":{"segments":2,"bytes":30,"hash":"c"},"verdict":"complete"}}`))
	code, v := r.verify("--since-last")
	if code != 1 || v.Recordings != 1 || !v.has(audit.FindingRecording) || v.Problems[0].ID != "ssh_1" || !strings.Contains(v.Problems[0].What, "the log knows of 2 segments, 30 bytes") {
		t.Errorf("exit %d: %+v", code, v)
	}
	// A session that starts a second time is a contradiction, though its first start is not read again.
	b = newLogBroker(t, 5)
	b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
	r = b.reviewer()
	if code, _ := r.verify(); code != 0 {
		t.Fatal(r.talk)
	}
	b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
	if code, v := r.verify("--since-last"); code != 1 || !v.has(audit.FindingSession) {
		t.Errorf("exit %d: %+v", code, v)
	}
}

// TestRollupsOfALaterMoment: the log grows between checkpoint and rollups.
func TestRollupsOfALaterMoment(t *testing.T) {
	b := newLogBroker(t, audit.SegmentSize-2)
	r := b.reviewer()
	b.answer = func(_ http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == api.RouteRollups && len(b.rows) < audit.SegmentSize {
			b.mu.Unlock()
			b.grow(5)
			b.mu.Lock()
		}
		return false
	}
	if code, v := r.verify(); code != 0 || v.RolledUp != audit.SegmentSize || v.Events != audit.SegmentSize+3 {
		t.Errorf("exit %d: %+v %s", code, v, r.talk)
	}
}

// TestVerifyWithoutRecordings: what was not looked at is not said to be well.
func TestVerifyWithoutRecordings(t *testing.T) {
	b := newLogBroker(t, 5)
	b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
	r := b.reviewer()
	for _, flag := range []string{"--no-recordings=false", "--no-recordings"} {
		checked := flag != "--no-recordings"
		if code, v := r.verify(flag); code != 0 || v.Checked != checked || (v.Recordings == 1) != checked {
			t.Errorf("%s: exit %d, %+v", flag, code, v)
		}
		code := r.sega("audit", "verify", flag)
		if code != 0 || strings.Contains(r.out.String(), "ok   1 recordings") != checked || strings.Contains(r.out.String(), "-    recordings were not checked") == checked {
			t.Errorf("%s: exit %d\n%s", flag, code, r.out)
		}
	}
}

func TestVerifyUsage(t *testing.T) {
	b := newLogBroker(t, 1)
	r := b.reviewer()
	for _, args := range [][]string{{"--key", "x"}, {"--since-last", "file.json"}, {"--no-recordings", "file.json"}, {"--key", "a+b+c", "file.json"}} {
		if code := r.sega(append([]string{"audit", "verify"}, args...)...); code != exitUsage {
			t.Errorf("%q: exit %d: %s", args, code, r.talk)
		}
	}
}
