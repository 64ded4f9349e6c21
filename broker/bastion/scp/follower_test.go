package scp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/bastion/sftp"
)

func TestCommand(t *testing.T) {
	for command, want := range map[string]string{
		"scp -t /srv/a":            "there /srv/a",
		"scp -f /srv/a":            "here /srv/a",
		"scp -r -p -d -t -- /srv/": "there /srv/",
		"scp -v -pt /a b":          "there /a b",
		"/usr/bin/scp -f .":        "here .",
		"scp /a /b":                "",
		"scp -tf /a":               "",
		"scp -t":                   "",
		"scp":                      "",
		"":                         "",
		"rscp -t /a":               "",
		"sh -c 'scp -t /a'":        "",
	} {
		got := ""
		if there, target, ok := parse(command); ok {
			got = map[bool]string{true: "there ", false: "here "}[there] + target
		}
		if got != want {
			t.Errorf("%q is %q, want %q", command, got, want)
		}
		if (New(command) == nil) != (want == "") {
			t.Errorf("%q is followed, or not", command)
		}
	}
}

// ended plays turns, of the source where they begin with ">" and of the sink where with "<", in pieces of
// cut bytes, and returns what has ended.
func ended(f *Follower, cut int, turns ...string) (ops []sftp.Operation) {
	var all []sftp.Operation
	for _, turn := range turns {
		see := f.Client
		if (turn[0] == '>') != f.there {
			see = f.Host
		}
		for b := []byte(turn[1:]); len(b) > 0; {
			n := len(b)
			if cut > 0 {
				n = min(n, cut)
			}
			all = append(all, see(append([]byte(nil), b[:n]...))...)
			b = b[n:]
		}
	}
	for _, op := range append(all, f.End()...) {
		if op.Outcome != sftp.Begun {
			ops = append(ops, op)
		}
	}
	return ops
}

func TestFollower(t *testing.T) {
	mode := uint32(0o644)
	file := func(number uint64, path, content string, outcome sftp.Outcome, reason string) sftp.Operation {
		h := sha256.Sum256([]byte(content))
		return sftp.Operation{Number: number, Kind: sftp.Write, Outcome: outcome, Reason: reason, Path: path, To: "/srv", Attrs: &sftp.Attributes{Mode: &mode},
			Written: &sftp.Transfer{Bytes: int64(len(content)), Runs: []sftp.Run{{Bytes: int64(len(content)), SHA256: hex.EncodeToString(h[:])}}}}
	}
	none := func(op sftp.Operation) sftp.Operation { op.Written = nil; return op }
	lost := func(number uint64) sftp.Operation {
		return sftp.Operation{Number: number, Kind: sftp.Refuse, Outcome: sftp.Unknown, Reason: lostText}
	}
	const yes = "<\x00"
	for name, test := range map[string]struct {
		turns []string
		want  []sftp.Operation
	}{
		"a file":              {[]string{yes, ">C0644 5 a\n", yes, ">hello\x00", yes}, []sftp.Operation{file(1, "a", "hello", sftp.Success, "")}},
		"its times":           {[]string{yes, ">T1 0 2 0\n", yes, ">C0644 5 a\n", yes, ">hello\x00", yes}, []sftp.Operation{file(1, "a", "hello", sftp.Success, "")}},
		"an empty one":        {[]string{yes, ">C0644 0 a b\n", yes, ">\x00", yes}, []sftp.Operation{file(1, "a b", "", sftp.Success, "")}},
		"folders":             {[]string{yes, ">D0755 0 d\n", yes, ">D0755 0 e\n", yes, ">C0644 1 a\n", yes, ">x\x00", yes, ">E\n", yes, ">E\n", yes, ">C0644 1 b\n", yes, ">y\x00", yes}, []sftp.Operation{file(1, "d/e/a", "x", sftp.Success, ""), file(2, "b", "y", sftp.Success, "")}},
		"a folder not taken":  {[]string{yes, ">D0755 0 d\n", "<\x01no\n", ">C0644 1 b\n", yes, ">y\x00", yes}, []sftp.Operation{file(1, "b", "y", sftp.Success, "")}},
		"up and out":          {[]string{yes, ">C0644 1 ../../etc/passwd\n", yes, ">y\x00", yes}, []sftp.Operation{file(1, "../../etc/passwd", "y", sftp.Success, "")}},
		"not taken":           {[]string{yes, ">C0644 5 a\n", "<\x01scp: denied\n", ">C0644 1 b\n", yes, ">y\x00", yes}, []sftp.Operation{none(file(1, "a", "", sftp.Failure, "the other end did not take it")), file(2, "b", "y", sftp.Success, "")}},
		"not kept":            {[]string{yes, ">C0644 5 a\n", yes, ">hello\x00", "<\x01scp: disk full\n"}, []sftp.Operation{file(1, "a", "hello", sftp.Failure, "the other end could not keep all of it")}},
		"not read":            {[]string{yes, ">C0644 5 a\n", yes, ">hell\x00\x01scp: I/O error\n", yes}, []sftp.Operation{file(1, "a", "hell\x00", sftp.Failure, "not all of it could be read")}},
		"not there":           {[]string{yes, ">\x01scp: /a: No such file\n", ">C0644 1 b\n", yes, ">y\x00", yes}, []sftp.Operation{file(1, "b", "y", sftp.Success, "")}},
		"cut off":             {[]string{yes, ">C0644 5 a\n", yes, ">hel"}, []sftp.Operation{file(1, "a", "hel", sftp.Unknown, endedText)}},
		"no end":              {[]string{yes, ">C0644 5 a\n", yes, ">hello\x00"}, []sftp.Operation{file(1, "a", "hello", sftp.Unknown, endedText)}},
		"it does not wait":    {[]string{yes, ">C0644 5 a\nhello\x00"}, []sftp.Operation{none(file(1, "a", "", sftp.Unknown, lostText)), lost(2)}},
		"not at first either": {[]string{">C0644 5 a\n"}, []sftp.Operation{lost(1)}},
		"an answer too many":  {[]string{yes, yes}, []sftp.Operation{lost(1)}},
		"an answer amid":      {[]string{yes, ">C0644 5 a\n", yes, ">hel", yes}, []sftp.Operation{file(1, "a", "hel", sftp.Unknown, lostText), lost(2)}},
		"no answer":           {[]string{"<hello"}, []sftp.Operation{lost(1)}},
		"no line":             {[]string{yes, ">rm -rf\n", yes, ">C0644 5 a\n"}, []sftp.Operation{lost(1)}},
		"an empty line":       {[]string{yes, ">\n"}, []sftp.Operation{lost(1)}},
		"no end of folder":    {[]string{yes, ">E\n"}, []sftp.Operation{lost(1)}},
		"a size below zero":   {[]string{yes, ">C0644 -1 a\n"}, []sftp.Operation{lost(1)}},
		"a size too large":    {[]string{yes, ">C0644 9223372036854775808 a\n"}, []sftp.Operation{lost(1)}},
		"no name":             {[]string{yes, ">C0644 1 \n"}, []sftp.Operation{lost(1)}},
		"no mode":             {[]string{yes, ">C 1 a\n"}, []sftp.Operation{lost(1)}},
		"a line without end":  {[]string{yes, ">C" + strings.Repeat("0", maxLine)}, []sftp.Operation{lost(1)}},
		"words without end":   {[]string{"<\x01" + strings.Repeat("0", maxLine)}, []sftp.Operation{lost(1)}},
		"folders without end": {append([]string{yes}, repeat(maxFolder+1, ">D0755 0 d\n", yes)...), []sftp.Operation{lost(1)}},
	} {
		for _, cut := range []int{0, 1, 3} {
			if diff := cmp.Diff(test.want, ended(New("scp -t /srv"), cut, test.turns...)); diff != "" {
				t.Errorf("%s in pieces of %d (-want +got):\n%s", name, cut, diff)
			}
			here := ended(New("scp -f /srv"), cut, test.turns...)
			for i := range here {
				if here[i].Kind == sftp.Read {
					here[i].Kind, here[i].Written, here[i].Read = sftp.Write, here[i].Read, here[i].Written
				}
			}
			if diff := cmp.Diff(test.want, here); diff != "" {
				t.Errorf("%s the other way in pieces of %d (-want +got):\n%s", name, cut, diff)
			}
		}
	}
}

func repeat(n int, turns ...string) (out []string) {
	for range n {
		out = append(out, turns...)
	}
	return out
}

// FuzzFollower: any bytes of both ends in any pieces. However they are cut the same is said of them, each
// file that begins ends once, and what is held stays within its bounds.
func FuzzFollower(f *testing.F) {
	for _, turns := range [][]string{
		{"<\x00", ">T1 0 2 0\n", "<\x00", ">C0644 5 a\n", "<\x00", ">hello\x00", "<\x00"},
		{"<\x00", ">D0755 0 d\n", "<\x00", ">C0600 0 a b\n", "<\x00", ">\x00", "<\x01scp: no\n", ">E\n", "<\x00"},
		{"<\x00", ">\x01scp: /a: No such file or directory\n", "<\x02scp: lost\n"},
	} {
		f.Add(strings.Join(turns, "\xff"), uint8(0))
		f.Add(strings.Join(turns, "\xff"), uint8(1))
	}
	f.Fuzz(func(t *testing.T, all string, cut uint8) {
		var turns []string
		for _, turn := range strings.Split(all, "\xff") {
			if len(turn) > 1 && (turn[0] == '<' || turn[0] == '>') {
				turns = append(turns, turn)
			}
		}
		whole, parts := New("scp -t /srv"), New("scp -t /srv")
		want := ended(whole, 0, turns...)
		if diff := cmp.Diff(want, ended(parts, 1+int(cut), turns...)); diff != "" {
			t.Errorf("what is said hangs on pieces (-whole +parts):\n%s", diff)
		}
		seen := map[uint64]bool{}
		for _, op := range want {
			if seen[op.Number] {
				t.Errorf("operation %d ends twice", op.Number)
			}
			seen[op.Number] = true
		}
		if uint64(len(seen)) != whole.number {
			t.Errorf("%d operations began, %d have ended", whole.number, len(seen))
		}
		if len(whole.line) > maxLine || len(whole.reply) > maxLine || len(whole.folders) > maxFolder {
			t.Error("more is held than may be")
		}
	})
}
