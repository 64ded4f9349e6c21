package sftp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// text is n bytes of which no two places look alike.
func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:n]
}

func ok(id int) []byte { return packet(typeStatus, id, statusOK, "", "") }

func failed(id, code int) []byte { return packet(typeStatus, id, code, "no", "") }

func open(id int, path string, flags int) []byte { return packet(typeOpen, id, path, flags, 0) }

func write(id int, handle string, at uint64, data []byte) []byte {
	return packet(typeWrite, id, handle, at, string(data))
}

func ptr[T any](v T) *T { return &v }

// pieces are writes, or answers to reads, at offsets.
type pieces []struct {
	at uint64
	n  int
}

func TestDigests(t *testing.T) {
	file := text(3 << 20)
	part := func(at uint64, n int) Run { return Run{at, int64(n), sum(file[at : at+uint64(n)])} }
	many := pieces{}
	rest := []byte{}
	want := &Transfer{Bytes: 40 * 10}
	for i := range 40 {
		at := uint64((40 - i) * 100)
		many = append(many, struct {
			at uint64
			n  int
		}{at, 10})
		if i < maxRuns {
			want.Runs = append(want.Runs, part(at, 10))
		} else {
			rest = append(rest, file[at:at+10]...)
		}
	}
	want.Rest = &Rest{240, sum(rest)}
	for name, test := range map[string]struct {
		pieces pieces
		want   *Transfer
	}{
		"nothing":         {nil, &Transfer{Runs: []Run{{0, 0, sum(nil)}}}},
		"in order":        {pieces{{0, 32768}, {32768, 32768}, {65536, 100}}, &Transfer{Bytes: 65636, Runs: []Run{part(0, 65636)}}},
		"resumed":         {pieces{{1000, 32768}, {33768, 5}}, &Transfer{Bytes: 32773, Runs: []Run{part(1000, 32773)}}},
		"out of order":    {pieces{{0, 10}, {20, 10}, {30, 10}, {10, 10}, {40, 5}}, &Transfer{Bytes: 45, Runs: []Run{part(0, 45)}}},
		"sparse":          {pieces{{0, 10}, {1 << 20, 10}}, &Transfer{Bytes: 20, Runs: []Run{part(0, 10), part(1<<20, 10)}}},
		"overlapping":     {pieces{{0, 100}, {50, 100}, {150, 10}}, &Transfer{Bytes: 210, Runs: []Run{part(0, 100), part(50, 110)}}},
		"far ahead":       {pieces{{0, 10}, {1 << 20, 1 << 17}, {1<<20 + 1<<17, 1 << 17}, {10, 90}}, &Transfer{Bytes: 100 + 1<<18, Runs: []Run{part(0, 100), part(1<<20, 1<<18)}}},
		"never filled up": {pieces{{0, 10}, {100, 200_000}, {300_000, 200_000}, {600_000, 200_000}, {900_000, 200_000}, {1_200_000, 200_000}, {1_500_000, 200_000}, {10, 90}}, &Transfer{Bytes: 1_200_100, Runs: []Run{part(0, 10), part(100, 200_000), part(10, 90), part(300_000, 200_000), part(600_000, 200_000), part(900_000, 200_000), part(1_200_000, 200_000), part(1_500_000, 200_000)}}},
		"all over":        {many, want},
	} {
		for _, cut := range []int{0, 997, 65536} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				w := newWorld(t, Config{Content: true})
				w.cut = cut
				w.client(open(1, "/f", flagWrite|flagCreate))
				w.host(packet(typeHandle, 1, "h"))
				for i, p := range test.pieces {
					w.client(write(i+2, "h", p.at, file[p.at:p.at+uint64(p.n)]))
				}
				for i := range test.pieces {
					w.host(ok(i + 2))
				}
				w.client(packet(typeClose, 1, "h"))
				w.host(ok(1))
				op := Operation{Number: 1, Kind: Write, Outcome: Success, Path: "/f", Flags: "write,create", Written: test.want}
				if diff := cmp.Diff([]Operation{op}, w.ended()); diff != "" {
					t.Errorf("written (-want +got):\n%s", diff)
				}
				w = newWorld(t, Config{})
				w.cut = cut
				w.client(open(1, "/f", flagRead))
				w.host(packet(typeHandle, 1, "h"))
				for i, p := range test.pieces {
					w.client(packet(typeRead, i+2, "h", p.at, p.n))
				}
				for i, p := range test.pieces {
					w.host(packet(typeData, i+2, string(file[p.at:p.at+uint64(p.n)])))
				}
				w.client(packet(typeClose, 1, "h"))
				w.host(ok(1))
				op = Operation{Number: 1, Kind: Read, Outcome: Success, Path: "/f", Flags: "read", Read: test.want}
				if test.pieces == nil {
					op.Read = nil
				}
				if diff := cmp.Diff([]Operation{op}, w.ended()); diff != "" {
					t.Errorf("read (-want +got):\n%s", diff)
				}
				if w.o.waiting != 0 {
					t.Errorf("%d bytes still wait", w.o.waiting)
				}
			})
		}
	}
}

// TestOperations shows each kind of request with its answers.
func TestOperations(t *testing.T) {
	mode := &Attributes{Mode: ptr(uint32(0o644))}
	setMode := raw{0, 0, 0, attrMode, 0, 0, 1, 0o644 & 0xff}
	setMode[6] = 0o644 >> 8
	for name, test := range map[string]struct {
		client, host [][]byte // in turn: a request and its answer
		want         []Operation
	}{
		"remove":         {[][]byte{packet(typeRemove, 1, "/a")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Remove, Outcome: Success, Path: "/a"}}},
		"remove nothing": {[][]byte{packet(typeRemove, 1, "/a")}, [][]byte{failed(1, 2)}, []Operation{{Number: 1, Kind: Remove, Outcome: Failure, Reason: "no such file", Path: "/a"}}},
		"odd status":     {[][]byte{packet(typeRemove, 1, "/a")}, [][]byte{failed(1, 99)}, []Operation{{Number: 1, Kind: Remove, Outcome: Failure, Reason: "status 99", Path: "/a"}}},
		"short status":   {[][]byte{packet(typeRemove, 1, "/a")}, [][]byte{packet(typeStatus, 1, 0)}, []Operation{{Number: 1, Kind: Remove, Outcome: Success, Path: "/a"}}},
		"rename":         {[][]byte{packet(typeRename, 1, "/a", "/b")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Rename, Outcome: Success, Path: "/a", To: "/b"}}},
		"posix rename":   {[][]byte{packet(typeExtended, 1, "posix-rename@openssh.com", "/a", "/b")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Rename, Outcome: Success, Path: "/a", To: "/b"}}},
		"symlink":        {[][]byte{packet(typeSymlink, 1, "/target", "/new")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Symlink, Outcome: Success, Path: "/new", To: "/target"}}},
		"hard link":      {[][]byte{packet(typeExtended, 1, "hardlink@openssh.com", "/old", "/new")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Link, Outcome: Success, Path: "/new", To: "/old"}}},
		"mkdir":          {[][]byte{packet(typeMkdir, 1, "/d", setMode)}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Mkdir, Outcome: Success, Path: "/d", Attrs: mode}}},
		"rmdir":          {[][]byte{packet(typeRmdir, 1, "/d")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Rmdir, Outcome: Success, Path: "/d"}}},
		"setstat":        {[][]byte{packet(typeSetstat, 1, "/a", setMode)}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Setstat, Outcome: Success, Path: "/a", Attrs: mode}}},
		"lsetstat":       {[][]byte{packet(typeExtended, 1, "lsetstat@openssh.com", "/a", setMode)}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Setstat, Outcome: Success, Path: "/a", Attrs: mode}}},
		"all attributes": {[][]byte{packet(typeSetstat, 1, "/a", 15, uint64(7), 1, 2, 3, 4, 5)}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Setstat, Outcome: Success, Path: "/a",
			Attrs: &Attributes{Size: ptr(uint64(7)), UID: ptr(uint32(1)), GID: ptr(uint32(2)), Mode: ptr(uint32(3)), Accessed: ptr(uint32(4)), Modified: ptr(uint32(5))}}}},
		"fsetstat": {[][]byte{open(1, "/a", flagWrite), packet(typeFsetstat, 2, "h", setMode), packet(typeClose, 3, "h")}, [][]byte{packet(typeHandle, 1, "h"), ok(2), ok(3)}, []Operation{
			{Number: 2, Kind: Setstat, Outcome: Success, Path: "/a", Attrs: mode}, {Number: 1, Kind: Write, Outcome: Success, Path: "/a", Flags: "write", Written: &Transfer{Runs: []Run{{SHA256: sum(nil)}}}}}},
		"copy": {[][]byte{open(1, "/a", flagRead), open(2, "/b", flagWrite), packet(typeExtended, 3, "copy-data", "x", uint64(1), uint64(2), "y", uint64(3))}, [][]byte{packet(typeHandle, 1, "x"), packet(typeHandle, 2, "y"), ok(3)}, []Operation{
			{Number: 3, Kind: Copy, Outcome: Success, Path: "/a", To: "/b", Range: &Range{1, 2, 3}},
			{Number: 1, Kind: Read, Outcome: Unknown, Reason: brokenText, Path: "/a", Flags: "read"},
			{Number: 2, Kind: Write, Outcome: Unknown, Reason: brokenText, Path: "/b", Flags: "write", Written: &Transfer{Runs: []Run{{SHA256: sum(nil)}}}}}},
		"list": {[][]byte{packet(typeOpendir, 1, "/d"), packet(typeReaddir, 2, "h"), packet(typeReaddir, 3, "h"), packet(typeClose, 4, "h")}, [][]byte{packet(typeHandle, 1, "h"),
			packet(typeName, 2, 2, "a", "a", 0, "b", "b", 0), failed(3, statusEOF), ok(4)}, []Operation{{Number: 1, Kind: List, Outcome: Success, Path: "/d", Entries: 2}}},
		"no such file":    {[][]byte{open(1, "/a", flagRead)}, [][]byte{failed(1, 2)}, []Operation{{Number: 1, Kind: Read, Outcome: Failure, Reason: "no such file", Path: "/a", Flags: "read"}}},
		"no handle given": {[][]byte{open(1, "/a", flagRead)}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Read, Outcome: Unknown, Reason: "the host gave no handle", Path: "/a", Flags: "read"}}},
		"full disk": {[][]byte{open(1, "/a", flagWrite|flagTrunc), write(2, "h", 0, []byte("abc")), write(3, "h", 3, []byte("d")), packet(typeClose, 4, "h")}, [][]byte{packet(typeHandle, 1, "h"), ok(2), failed(3, 4), ok(4)},
			[]Operation{{Number: 1, Kind: Write, Outcome: Failure, Reason: "failure", Failed: 1, Path: "/a", Flags: "write,truncate", Written: &Transfer{Bytes: 4, Runs: []Run{{0, 4, sum([]byte("abcd"))}}}}}},
		"close fails": {[][]byte{open(1, "/a", flagRead), packet(typeClose, 4, "h")}, [][]byte{packet(typeHandle, 1, "h"), failed(4, 4)},
			[]Operation{{Number: 1, Kind: Read, Outcome: Failure, Reason: "failure", Path: "/a", Flags: "read"}}},
		"both ways": {[][]byte{open(1, "/a", flagRead|flagWrite|flagExcl), write(2, "h", 0, []byte("abc")), packet(typeRead, 3, "h", uint64(1), 10), packet(typeRead, 5, "h", uint64(3), 10), packet(typeClose, 4, "h")},
			[][]byte{packet(typeHandle, 1, "h"), ok(2), packet(typeData, 3, "bc"), failed(5, statusEOF), ok(4)},
			[]Operation{{Number: 1, Kind: Write, Outcome: Success, Path: "/a", Flags: "read,write,exclusive", Written: &Transfer{Bytes: 3, Runs: []Run{{0, 3, sum([]byte("abc"))}}}, Read: &Transfer{Bytes: 2, Runs: []Run{{1, 2, sum([]byte("bc"))}}}}}},
		"counted": {[][]byte{packet(typeStat, 1, "/a"), packet(typeStat, 2, "/b"), packet(typeLstat, 3, "/b"), packet(typeRealpath, 4, "."), packet(typeReadlink, 5, "/l"), packet(typeExtended, 6, "statvfs@openssh.com", "/"),
			packet(typeExtended, 7, "limits@openssh.com"), packet(typeExtended, 8, "expand-path@openssh.com", "~"), packet(typeExtended, 9, "home-directory", "ada"), packet(typeExtended, 10, "users-groups-by-id@openssh.com", "", "")},
			[][]byte{packet(typeAttrs, 1, 0), failed(2, 2), packet(typeAttrs, 3, 0), packet(typeName, 4, 1, "/", "/", 0), failed(5, 4), packet(typeExtendedReply, 6, uint64(1)), packet(typeExtendedReply, 7, uint64(1)),
				packet(typeName, 8, 1, "/", "/", 0), packet(typeName, 9, 1, "/", "/", 0), packet(typeExtendedReply, 10, "", "")},
			[]Operation{{Number: 1, Kind: Stat, Outcome: Success, Counts: map[string]Count{"stat": {2, 1}, "lstat": {1, 0}, "realpath": {1, 0}, "readlink": {1, 1}, "statvfs": {1, 0}, "limits": {1, 0}, "expand-path": {1, 0}, "home-directory": {1, 0}, "users-groups-by-id": {1, 0}}}}},
		"counted on a handle": {[][]byte{open(1, "/a", flagRead), packet(typeFstat, 2, "h"), packet(typeExtended, 3, "fsync@openssh.com", "h"), packet(typeExtended, 4, "fstatvfs@openssh.com", "h"), packet(typeClose, 5, "h")},
			[][]byte{packet(typeHandle, 1, "h"), packet(typeAttrs, 2, 0), ok(3), packet(typeExtendedReply, 4, uint64(1)), ok(5)},
			[]Operation{{Number: 1, Kind: Read, Outcome: Success, Path: "/a", Flags: "read"}, {Number: 2, Kind: Stat, Outcome: Success, Counts: map[string]Count{"fstat": {1, 0}, "fsync": {1, 0}, "fstatvfs": {1, 0}}}}},
		"not answered": {[][]byte{packet(typeRemove, 1, "/a")}, [][]byte{nil}, []Operation{{Number: 1, Kind: Remove, Outcome: Unknown, Reason: brokenText, Path: "/a"}}},
		"long paths":   {[][]byte{packet(typeRename, 1, strings.Repeat("a", maxPath+1), "/b")}, [][]byte{ok(1)}, []Operation{{Number: 1, Kind: Rename, Outcome: Success, Path: strings.Repeat("a", maxPath), To: "/b", Cut: true}}},
	} {
		for _, cut := range []int{0, 1, 13} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				w := newWorld(t, Config{})
				w.cut = cut
				for i := range test.client {
					w.client(test.client[i])
					w.host(test.host[i])
				}
				w.end()
				if w.err != nil {
					t.Fatal(w.err)
				}
				if diff := cmp.Diff(test.want, w.ended()); diff != "" {
					t.Errorf("operations (-want +got):\n%s", diff)
				}
				if !bytes.Equal(w.toHost, join(test.client...)) || !bytes.Equal(w.toPerson, join(test.host...)) {
					t.Error("other bytes went on than came")
				}
			})
		}
	}
}
