package bastion

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestOldSCP: files that go over by `scp -O` are in the log like those of SFTP, both ways, one by one,
// in folders, with their times, empty, and those that one end does not have or does not take.
func TestOldSCP(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	c := w.copier(t)
	for _, dir := range []string{"dir", "dir/sub"} {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(c.dir, "dir", "empty"), "")
	writeFile(t, filepath.Join(c.dir, "dir", "sub", "a b"), "text")
	at := func(path string) string { return fmt.Sprintf("%s+web-1@bastion:%s/%s", currentLogin(t), c.dir, path) }
	local := func(path string) string { return filepath.Join(c.dir, path) }
	for i, test := range []struct {
		args []string
		fail bool
		want []onFile
	}{
		{[]string{local("local"), at("there")}, false, []onFile{{Kind: "sftp.write", Path: "local", To: local("there"), Written: whole(c.content)}}},
		{[]string{"-p", at("there"), local("back")}, false, []onFile{{Kind: "sftp.read", Path: "there", To: local("there"), Read: whole(c.content)}}},
		{[]string{"-r", "-p", local("dir"), at("copy")}, false, []onFile{{Kind: "sftp.write", Path: "dir/empty", To: local("copy"), Written: whole(nil)}, {Kind: "sftp.write", Path: "dir/sub/a b", To: local("copy"), Written: whole([]byte("text"))}}},
		{[]string{"-r", at("copy"), local("copied")}, false, []onFile{{Kind: "sftp.read", Path: "copy/empty", To: local("copy"), Read: whole(nil)}, {Kind: "sftp.read", Path: "copy/sub/a b", To: local("copy"), Read: whole([]byte("text"))}}},
		{[]string{at("nothing"), local("nowhere")}, true, nil},
		{[]string{local("local"), at("nowhere/there")}, true, []onFile{{Kind: "sftp.write", Outcome: "failure", Reason: "the other end did not take it", Path: "local", To: local("nowhere/there")}}},
		{[]string{local("local"), local("dir/empty"), at("dir")}, false, []onFile{{Kind: "sftp.write", Path: "local", To: local("dir"), Written: whole(c.content)}, {Kind: "sftp.write", Path: "empty", To: local("dir"), Written: whole(nil)}}},
	} {
		if out, err := c.run(t, "scp", "", append([]string{"-O", "-q"}, test.args...)...); (err != nil) != test.fail {
			t.Fatalf("scp %q: %v: %s", test.args, err, out)
		}
		for i := range test.want {
			if test.want[i].Outcome == "" {
				test.want[i].Outcome = "success"
			}
		}
		got := f.filesOf(t, c.ends(t, i+1).SessionID)
		if diff := gocmp.Diff(test.want, got, gocmp.Transformer("sorted", sortedFiles)); diff != "" {
			t.Errorf("scp %q (-want +got):\n%s", test.args, diff)
		}
	}
	c.same(t, "back")
}

// sortedFiles puts what scp sends in the order of a folder into one of its own.
func sortedFiles(ops []onFile) map[string]onFile {
	out := map[string]onFile{}
	for _, op := range ops {
		out[op.Path] = op
	}
	return out
}
