//go:build linux

package clients

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"sega/cmd/segad/dev/devtest"
)

// row is one use of one client.
type row struct {
	client, use string
	needs       []string // programs
	run         func(t *testing.T, w *world)

	refused  bool     // no session begins
	commands []string // starts that the log names: type and beginning
	moved    bool     // the data goes both ways
	files    bool     // and the log has its digest, each way
	forwards []string // outcome and type of forwards in the log
	policy   string   // beside the environment's own, for this row and those behind it
	more     bool     // runs where SEGA_SOAK asks for everything: dev/e2e goes this way too, or another row does nearly
}

func rows() []row {
	return slices.Concat(opensshRows(), puttyRows(), pythonRows(), toolRows(), regressRows(), forwardRows(), refusedRows(), permittedRows())
}

// line is what the table says of a row.
type line struct {
	row
	verdict string
	evidence
}

// TestMatrix runs every row against one environment, one after the other, so that what is new in the log is the row's.
func TestMatrix(t *testing.T) {
	devtest.Need(t, "ssh", "sshd")
	w := newWorld(t)
	var table []line
	for _, r := range rows() {
		l := line{row: r, verdict: "not run"}
		t.Run(r.client+" "+r.use, func(t *testing.T) {
			defer func() { l.verdict = verdict(t) }()
			if r.more && os.Getenv("SEGA_SOAK") != "1" {
				t.Skip("runs with SEGA_SOAK=1")
			}
			devtest.Need(t, r.needs...)
			sub := *w
			sub.Env = w.With(t)
			if r.policy != "" {
				sub.permit(t, r.policy)
			}
			mark := sub.mark(t)
			r.run(t, &sub)
			l.evidence = sub.found(t, mark)
			r.judge(t, l.evidence, hex.EncodeToString(w.sum[:]))
		})
		table = append(table, l)
	}
	// Every leaf, column and recording once more, from the bytes.
	expect(t, w.reviewer.Sega("audit", "verify"), 0, "recordings")
	print(t, table)
}

func verdict(t *testing.T) string {
	switch {
	case t.Skipped():
		return "skipped"
	case t.Failed():
		return "FAILED"
	}
	return "ok"
}

// judge holds what the log says against what the row has done.
func (r row) judge(t *testing.T, e evidence, digest string) {
	t.Helper()
	if r.refused != (e.sessions == 0) {
		t.Errorf("%d sessions began", e.sessions)
	}
	e.has(t, r.commands...)
	if r.moved && (e.in < size || e.out < size) {
		t.Errorf("%d bytes recorded in, %d out", e.in, e.out)
	}
	if r.files && (!slices.Contains(e.written, digest) || !slices.Contains(e.read, digest)) {
		t.Errorf("no file of the digest %s: written %q, read %q", digest, e.written, e.read)
	}
	slices.Sort(e.forwards)
	if !slices.Equal(slices.Compact(e.forwards), slices.Clone(r.forwards)) {
		t.Errorf("forwards in the log: %q, want %q", e.forwards, r.forwards)
	}
}

// print shows the table with -v.
func print(t *testing.T, table []line) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tVERSION\tUSE\tOK\tSEEN BY A REVIEWER")
	for _, l := range table {
		seen := l.evidence.String()
		if l.refused {
			seen = "refused, no session"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.client, version(l.client), l.use, l.verdict, seen)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
}

var number = regexp.MustCompile(`\d+\.\d+[\w.]*`)

// version asks a client for its own.
func version(client string) string {
	argv := map[string][]string{
		"ssh": {"ssh", "-V"}, "scp": {"ssh", "-V"}, "sftp": {"ssh", "-V"}, "sega ssh": {"ssh", "-V"}, "regress": {"ssh", "-V"},
		"plink": {"plink", "-V"}, "pscp": {"pscp", "-V"}, "psftp": {"psftp", "-V"},
		"paramiko": {"/usr/bin/python3", "-c", "import paramiko; print(paramiko.__version__)"},
		"asyncssh": {"/usr/bin/python3", "-W", "ignore", "-c", "import asyncssh; print(asyncssh.__version__)"},
		"ansible":  {"ansible", "--version"}, "rsync": {"rsync", "--version"}, "git": {"git", "--version"}, "sshfs": {"sshfs", "--version"},
		"mosh": {"mosh", "--version"}, "dbclient": {"dbclient", "-V"},
	}[client]
	if argv == nil {
		return "?"
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin:/usr/sbin:/sbin")
	out, _ := c.CombinedOutput() // some end with an error, having said it
	if v := number.FindString(string(out)); v != "" {
		return v
	}
	return "?"
}
