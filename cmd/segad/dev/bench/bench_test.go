//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for _, c := range []struct {
		name    string
		samples []time.Duration
		q       float64
		want    time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"median of two is the lower", []time.Duration{9, 3}, 0.5, 3},
		{"median of three", []time.Duration{9, 3, 5}, 0.5, 5},
		{"p99 of a hundred", hundred, 0.99, 99},
		{"most", hundred, 1, 100},
		{"least", hundred, 0, 1},
	} {
		if got := quantile(c.samples, c.q); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    float64
	}{{"none", nil, 0}, {"one", []float64{4}, 4}, {"two", []float64{9, 4}, 4}, {"three", []float64{9, 4, 5}, 5}} {
		if got := middle(c.samples); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	const good = "12 (a) b (c)) S 1 12 12 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 5 6 7"
	got, err := parseStat([]byte(good))
	want := usage{self: 33 * tick, children: 77 * tick}
	if err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "12 (a) S 1 2", "12 no name", strings.Replace(good, " 22 ", " x ", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) S 1 12 12 0 -1 4194560 100 200 0 0 11 22 33 44 20 0"))
	f.Add([]byte("1 ()"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := parseStat(raw)
		if err != nil && u != (usage{}) {
			t.Errorf("%v beside the error %v", u, err)
		}
	})
}

// TestUsage holds the figures against work of a known kind: a process that computes uses the processor.
func TestUsage(t *testing.T) {
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	spin := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err := spin.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := usageOf(os.Getpid())
	if err != nil || after.children-before.children < tick || after.children-before.children < spin.ProcessState.UserTime()/2 {
		t.Errorf("the child used %v, counted are %v, %v", spin.ProcessState.UserTime(), after.children-before.children, err)
	}
}

func TestChildrenAndMemory(t *testing.T) {
	c := exec.Command("/bin/cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	children, err := childrenOf(os.Getpid())
	if err != nil || !strings.Contains(join(children), join([]int{c.Process.Pid})) {
		t.Errorf("children %v, %v, want %d among them", children, err, c.Process.Pid)
	}
	alone, err := pss(os.Getpid())
	tree, treeErr := treePSS(os.Getpid())
	if err != nil || treeErr != nil || alone <= 0 || tree <= alone {
		t.Errorf("alone %v KiB (%v), with child %v KiB (%v)", alone, err, tree, treeErr)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// join frames each number with commas, so that none is found in another.
func join(pids []int) string {
	raw, _ := json.Marshal(pids)
	return "," + strings.Trim(string(raw), "[]") + ","
}

func TestParsePSS(t *testing.T) {
	got, err := parsePSS([]byte("00400000-7ffe r--p 0 0:0 0 [rollup]\nRss:  900 kB\nPss:             1234 kB\nPss_Anon: 7 kB\n"))
	if err != nil || got != 1234 {
		t.Errorf("%v, %v, want 1234", got, err)
	}
	if _, err := parsePSS([]byte("Rss: 900 kB\n")); err == nil {
		t.Error("a text without Pss is taken")
	}
}

func TestRound(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 12.34567: 12.35, 0.000123456: 0.0001235, 98766: 98770, math.NaN(): 0, math.Inf(1): 0} {
		if got := round(in); got != want {
			t.Errorf("round(%v) = %v, want %v", in, got, want)
		}
	}
}

// TestJSON pins what bench.json looks like, null where nothing was measured or budgeted.
func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), outFile)
	err := write(path, []Result{
		result("a", 3, "ms").against("peer", 2).atMost(2.5),
		result("b", 300, "MiB/s").against("peer", 0).atLeast(250),
		result("c", 1, "ms").unmeasured("peer").atMost(5),
		result("d", 1, "ms"),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	const text = `[
		{"name":"a","value":3,"unit":"ms","budget":2.5,"peer":"peer","peer_value":2,"ratio":1.5,"ok":false},
		{"name":"b","value":300,"unit":"MiB/s","budget":250,"peer":"peer","peer_value":0,"ratio":null,"ok":true},
		{"name":"c","value":1,"unit":"ms","budget":5,"peer":"peer","peer_value":null,"ratio":null,"ok":true},
		{"name":"d","value":1,"unit":"ms","budget":null,"peer":null,"peer_value":null,"ratio":null,"ok":null}]`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyListIsNotNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), outFile)
	if err := write(path, nil); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "[]\n" {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := table(&out, []Result{result("a", 3, "ms").against("peer", 2).atMost(2.5), result("b", 300, "MiB/s").atLeast(250), result("c", 1, "ms")}); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME  VALUE  UNIT   BUDGET  OK   PEER  PEER VALUE  RATIO\n" +
		"a     3      ms     ≤ 2.5   NO   peer  2           1.5\n" +
		"b     300    MiB/s  ≥ 250   yes  -     -           -\n" +
		"c     1      ms     -       -    -     -           -\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		name, step, only string
		want             bool
	}{
		{"everything", "cli.size", "", true},
		{"a group", "bastion.bulk", "bastion", true},
		{"the step", "bastion.bulk", "bastion.bulk", true},
		{"a part of it", "bastion.bulk", "bastion.bulk.text", true},
		{"another", "bastion.bulk", "bastion.echo", false},
		{"another group", "cli.size", "bastion", false},
	} {
		if got := wanted(c.step, c.only); got != c.want {
			t.Errorf("%s: wanted(%q, %q) = %v", c.name, c.step, c.only, got)
		}
	}
}

func TestNothingOfThatName(t *testing.T) {
	b := &bench{ctx: t.Context(), only: "bastoin", talk: &bytes.Buffer{}}
	if err := b.measure(); err == nil || !strings.Contains(err.Error(), "bastoin") {
		t.Errorf("%v, want an error that names it", err)
	}
}

func TestAddKeepsWhatIsAskedFor(t *testing.T) {
	b := &bench{only: "cli.start.p99"}
	b.add(result("cli.start", 1, "ms"), result("cli.start.p99", 2, "ms"))
	if len(b.results) != 1 || b.results[0].Name != "cli.start.p99" {
		t.Errorf("%+v", b.results)
	}
}

// TestKRL runs the step at a size that shows that it works, and judges nothing of time.
func TestKRL(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("sshd is missing")
		}
		t.Skip("sshd is not installed")
	}
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	if err := b.measureKRL(1000, 2); err != nil {
		t.Fatal(err)
	}
	got := map[string]Result{}
	for _, r := range b.results {
		got[r.Name] = r
	}
	size, gaps, login := got["revoke.krl.serials-1000.size"], got["revoke.krl.serials-1000.gaps.size"], got["revoke.krl.serials-1000.login"]
	if size.Value > 200 || gaps.Value < 100*21 || gaps.Value > 100*21+200 || login.PeerValue == nil || login.Budget == nil || *login.PeerValue == 0 {
		t.Errorf("%+v", b.results)
	}
}

func TestLogText(t *testing.T) {
	text := logText()
	if len(text) != mebibyte || bytes.Count(text, []byte("\n")) < 1000 {
		t.Errorf("%d bytes, %d lines", len(text), bytes.Count(text, []byte("\n")))
	}
}
