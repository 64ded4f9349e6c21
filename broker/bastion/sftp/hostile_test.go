package sftp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDenied shows what the host does not get to see, and what the person is told.
func TestDenied(t *testing.T) {
	denied := func(op Operation) []Operation {
		op.Number, op.Outcome, op.Reason = 2, Denied, readOnly
		return []Operation{op}
	}
	no := func(text string, code int) []byte { return packet(typeStatus, 9, code, "sega: "+text, "") }
	readOnlyNo := no(readOnly, statusDenied)
	for name, test := range map[string]struct {
		config Config
		packet []byte
		answer []byte
		want   []Operation
	}{
		"open to write":      {Config{ReadOnly: true}, open(9, "/a", flagRead|flagWrite), readOnlyNo, denied(Operation{Kind: Write, Path: "/a", Flags: "read,write"})},
		"open to create":     {Config{ReadOnly: true}, open(9, "/a", flagCreate), readOnlyNo, denied(Operation{Kind: Write, Path: "/a", Flags: "create"})},
		"open with odd bits": {Config{ReadOnly: true}, open(9, "/a", flagRead|0x40), readOnlyNo, denied(Operation{Kind: Write, Path: "/a", Flags: "read"})},
		"write":              {Config{ReadOnly: true}, write(9, "h", 0, []byte("abc")), readOnlyNo, nil},
		"remove":             {Config{ReadOnly: true}, packet(typeRemove, 9, "/a"), readOnlyNo, denied(Operation{Kind: Remove, Path: "/a"})},
		"rename":             {Config{ReadOnly: true}, packet(typeRename, 9, "/a", "/b"), readOnlyNo, denied(Operation{Kind: Rename, Path: "/a", To: "/b"})},
		"posix rename":       {Config{ReadOnly: true}, packet(typeExtended, 9, "posix-rename@openssh.com", "/a", "/b"), readOnlyNo, denied(Operation{Kind: Rename, Path: "/a", To: "/b"})},
		"symlink":            {Config{ReadOnly: true}, packet(typeSymlink, 9, "/a", "/b"), readOnlyNo, denied(Operation{Kind: Symlink, Path: "/b", To: "/a"})},
		"hard link":          {Config{ReadOnly: true}, packet(typeExtended, 9, "hardlink@openssh.com", "/a", "/b"), readOnlyNo, denied(Operation{Kind: Link, Path: "/b", To: "/a"})},
		"mkdir":              {Config{ReadOnly: true}, packet(typeMkdir, 9, "/a", 0), readOnlyNo, denied(Operation{Kind: Mkdir, Path: "/a"})},
		"rmdir":              {Config{ReadOnly: true}, packet(typeRmdir, 9, "/a"), readOnlyNo, denied(Operation{Kind: Rmdir, Path: "/a"})},
		"setstat":            {Config{ReadOnly: true}, packet(typeSetstat, 9, "/a", 0), readOnlyNo, denied(Operation{Kind: Setstat, Path: "/a"})},
		"fsetstat":           {Config{ReadOnly: true}, packet(typeFsetstat, 9, "h", 0), readOnlyNo, denied(Operation{Kind: Setstat, Path: "/open"})},
		"lsetstat":           {Config{ReadOnly: true}, packet(typeExtended, 9, "lsetstat@openssh.com", "/a", 0), readOnlyNo, denied(Operation{Kind: Setstat, Path: "/a"})},
		"copy":               {Config{ReadOnly: true}, packet(typeExtended, 9, "copy-data", "h", uint64(0), uint64(0), "h", uint64(0)), readOnlyNo, denied(Operation{Kind: Copy, Path: "/open", To: "/open", Range: &Range{}})},
		"unknown extension":  {Config{}, packet(typeExtended, 9, "do-anything@example.com", "/a"), no(unknownName, statusUnsupported), []Operation{{Number: 2, Kind: Refuse, Outcome: Denied, Reason: unknownName, Name: "do-anything@example.com"}}},
		"no handle":          {Config{}, write(9, "other", 0, []byte("abc")), no(noHandle, statusFailure), nil},
		"read no handle":     {Config{}, packet(typeRead, 9, "other", uint64(0), 1), no(noHandle, statusFailure), nil},
		"close no handle":    {Config{}, packet(typeClose, 9, "other"), no(noHandle, statusFailure), nil},
		"fstat no handle":    {Config{}, packet(typeFstat, 9, "other"), no(noHandle, statusFailure), nil},
		"fsync no handle":    {Config{}, packet(typeExtended, 9, "fsync@openssh.com", "other"), no(noHandle, statusFailure), nil},
		"copy no handle":     {Config{}, packet(typeExtended, 9, "copy-data", "h", uint64(0), uint64(0), "other", uint64(0)), no(noHandle, statusFailure), nil},
		"set no handle":      {Config{}, packet(typeFsetstat, 9, "other", 0), no(noHandle, statusFailure), nil},
	} {
		for _, cut := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				w := newWorld(t, test.config)
				w.client(open(1, "/open", flagRead))
				w.host(packet(typeHandle, 1, "h"))
				w.cut, w.toHost, w.recorded[0] = cut, nil, nil
				after := packet(typeStat, 10, "/b")
				w.client(test.packet, after)
				if w.err != nil {
					t.Fatal(w.err)
				}
				if !bytes.Equal(w.toHost, after) {
					t.Errorf("the host sees %q", w.toHost)
				}
				if len(w.recorded[0])+w.left != len(test.packet)+len(after) {
					t.Errorf("%d bytes were recorded, %d left out, of %d", len(w.recorded[0]), w.left, len(test.packet)+len(after))
				}
				if diff := cmp.Diff(string(test.answer), string(w.replies)); diff != "" {
					t.Errorf("the person reads (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(test.want, w.ended()); diff != "" {
					t.Errorf("operations (-want +got):\n%s", diff)
				}
				// The ID is free again, and nobody waits for the host to answer it.
				w.client(packet(typeStat, 9, "/c"))
				w.host(packet(typeAttrs, 9, 0), packet(typeAttrs, 10, 0))
				if w.err != nil {
					t.Error(w.err)
				}
			})
		}
	}
}

func TestReadOnlyLetsRead(t *testing.T) {
	w := newWorld(t, Config{ReadOnly: true})
	for i, p := range [][]byte{open(1, "/a", flagRead), open(2, "/a", 0), packet(typeOpendir, 3, "/d"), packet(typeStat, 4, "/a"), packet(typeExtended, 5, "limits@openssh.com")} {
		w.toHost = nil
		if w.client(p); !bytes.Equal(w.toHost, p) {
			t.Errorf("request %d did not go on", i+1)
		}
	}
}

// TestHostile shows what ends a channel, and that what does not fit goes into the recording and no further.
func TestHostile(t *testing.T) {
	person, host := func(text string) error { return &Error{Text: text} }, func(text string) error { return &Error{Host: true, Text: text} }
	opened, read := open(1, "/a", flagRead), packet(typeRead, 2, "h", uint64(0), 5)
	for name, test := range map[string]struct {
		before []byte // of the client's
		handle bool   // the host gives one for request 1 in between
		client []byte
		host   []byte
		want   error
	}{
		"client's packet too large":  {client: []byte{0, 4, 0, 1, typeStat}, want: person("sent a packet of 262145 bytes")},
		"client's packet of nothing": {client: []byte{0, 0, 0, 0, typeStat}, want: person("sent a packet of 0 bytes")},
		"host's packet too large":    {host: []byte{0xff, 0xff, 0xff, 0xff, typeName}, want: host("sent a packet of 4294967295 bytes")},
		"a second version":           {client: packet(typeInit, 3), want: person("said its version a second time")},
		"a request of version 6":     {client: packet(21, 1, "/a", "/b"), want: person("sent a request of type 21, which version 3 does not have")},
		"no request at all":          {client: packet(typeStatus, 1, 0), want: person("sent a request of type 101, which version 3 does not have")},
		"a cut request":              {client: packet(typeRename, 1, "/a"), want: person("sent a request of type 18 that is cut off")},
		"a request without ID":       {client: []byte{0, 0, 0, 5, typeOpendir, 0, 0, 0, 0}, want: person("sent a request of type 11 that is cut off")},
		"a string out of bounds":     {client: packet(typeStat, 1, raw{0xff, 0xff, 0xff, 0xff}), want: person("sent a request of type 17 that is cut off")},
		"one ID twice":               {before: packet(typeStat, 1, "/a"), client: packet(typeStat, 1, "/b"), want: person("sent a second request 1 before the first was answered")},
		"a long handle":              {client: packet(typeWrite, 1, strings.Repeat("h", 257), uint64(0), "x"), want: person("named a handle of 257 bytes")},
		"a write with less":          {client: packet(typeWrite, 1, "h", uint64(0), 5, raw("abc")), want: person("sent 5 bytes to write in a packet with room for 3")},
		"a write with more":          {client: packet(typeWrite, 1, "h", uint64(0), 2, raw("abc")), want: person("sent 2 bytes to write in a packet with room for 3")},
		"a short write":              {client: packet(typeWrite, 1, "h"), want: person("sent a packet of type 6 with 10 bytes, which is too short")},
		"an answer to nothing":       {host: ok(7), want: host("answered request 7, which nobody made")},
		"an answer twice":            {before: packet(typeStat, 1, "/a"), host: join(packet(typeAttrs, 1, 0), packet(typeAttrs, 1, 0)), want: host("answered request 1, which nobody made")},
		"the wrong answer":           {before: packet(typeStat, 1, "/a"), host: packet(typeHandle, 1, "h"), want: host("answered a request of type 17 with a packet of type 102")},
		"names for an extension":     {before: packet(typeExtended, 1, "limits@openssh.com"), host: packet(typeName, 1, 0), want: host("answered a request of type 200 with a packet of type 104")},
		"a request of the host's":    {before: packet(typeStat, 1, "/a"), host: packet(typeOpen, 1, "/a", 1, 0), want: host("answered a request of type 17 with a packet of type 3")},
		"a version again":            {host: packet(typeVersion, 3), want: host("said its version without being asked")},
		"a handle twice":             {before: read, handle: true, client: open(3, "/b", flagRead), host: packet(typeHandle, 3, "h"), want: host("gave one handle for two open files")},
		"a host's long handle":       {before: opened, host: packet(typeHandle, 1, strings.Repeat("h", 257)), want: host("sent a handle in 266 bytes")},
		"a handle and more":          {before: opened, host: packet(typeHandle, 1, "h", 1), want: host("sent a handle that is cut off")},
		"more than asked":            {before: read, handle: true, host: packet(typeData, 2, "123456"), want: host("sent 6 bytes, 6 of them in the packet, where 5 were asked for")},
		"data with more":             {before: read, handle: true, host: packet(typeData, 2, "123", raw("4")), want: host("sent 3 bytes, 4 of them in the packet, where 5 were asked for")},
		"a short status":             {before: packet(typeStat, 1, "/a"), host: packet(typeStatus, 1), want: host("sent a packet of type 101 with 5 bytes, which is too short")},
	} {
		for _, cut := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				w := newWorld(t, Config{Content: true})
				w.cut = cut
				if test.handle {
					w.client(open(1, "/a", flagRead))
					w.host(packet(typeHandle, 1, "h"))
				}
				w.client(test.before)
				if w.err != nil {
					t.Fatal(w.err)
				}
				w.client(test.client)
				w.host(test.host)
				if diff := cmp.Diff(test.want, w.err); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				var e *Error
				if !errors.As(w.err, &e) {
					return
				}
				bad, went, side := test.client, w.toHost, 0
				if e.Host {
					bad, went, side = test.host, w.toPerson, 1
				}
				if bytes.Contains(went, bad) {
					t.Error("it went on")
				}
				if cut == 0 && !bytes.HasSuffix(w.recorded[side], bad) {
					t.Error("it is not in the recording")
				}
			})
		}
	}
}

func TestBeforeTheVersion(t *testing.T) {
	for name, test := range map[string]struct {
		client, host []byte
		want         error
	}{
		"a request first":     {packet(typeStat, 1, "/a"), nil, &Error{Text: "sent a request of type 17 before the host had said its version"}},
		"a request at once":   {join(packet(typeInit, 3), packet(typeStat, 1, "/a")), nil, &Error{Text: "sent a request of type 17 before the host had said its version"}},
		"the host first":      {nil, packet(typeVersion, 3), &Error{Host: true, Text: "said its version without being asked"}},
		"another version":     {packet(typeInit, 6), packet(typeVersion, 6), &Error{Host: true, Text: "speaks SFTP version 6, and the bastion knows version 3 alone"}},
		"the client knows 6":  {packet(typeInit, 6), packet(typeVersion, 3), nil},
		"something else":      {[]byte("SSH-2.0-x\r\n"), nil, &Error{Text: "sent a packet of 1397966893 bytes"}},
		"a shell's greetings": {packet(typeInit, 3), []byte("Welcome to web-1\n"), &Error{Host: true, Text: "sent a packet of 1466264675 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, o: New(Config{})}
			w.client(test.client)
			w.host(test.host)
			if diff := cmp.Diff(test.want, w.err); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestBounds floods an observer, which must hold no more than it says.
func TestBounds(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		w := newWorld(t, Config{})
		var flood []byte
		for i := range 3 * maxRequests {
			flood = append(flood, packet(typeStat, i, "/a")...)
		}
		step, n := w.o.Client(flood)
		if one := len(packet(typeStat, 0, "/a")); n != maxRequests*one || len(step.Forward) != 1 || len(step.Forward[0]) != n {
			t.Fatalf("%d bytes are done with, %d went on", n, len(step.Forward))
		}
		waited := make(chan int)
		go func() {
			_, n := w.o.Client(flood[n:])
			waited <- n
		}()
		w.host(packet(typeAttrs, 0, 0))
		if got := <-waited; got == 0 {
			t.Error("nothing goes on after an answer")
		}
		go func() {
			_, n := w.o.Client(flood[n:])
			waited <- n
		}()
		w.o.Over()
		if got := <-waited; got != 0 {
			t.Errorf("%d bytes go on when the channel is over", got)
		}
	})
	t.Run("handles", func(t *testing.T) {
		w := newWorld(t, Config{})
		for i := range maxFiles {
			w.client(packet(typeOpendir, i, "/a"))
			w.host(packet(typeHandle, i, fmt.Sprint(i)))
		}
		w.client(packet(typeOpendir, 1, "/a"))
		if want := packet(typeStatus, 1, statusFailure, "sega: "+tooMany, ""); !bytes.Equal(w.replies, want) {
			t.Errorf("the person reads %q", w.replies)
		}
		w.client(packet(typeClose, 1, "7"))
		w.host(ok(1))
		w.replies = nil
		if w.client(packet(typeOpendir, 1, "/a")); w.replies != nil || w.err != nil {
			t.Errorf("no file can be opened after one was closed: %q, %v", w.replies, w.err)
		}
	})
	t.Run("out of order", func(t *testing.T) {
		w := newWorld(t, Config{})
		for h := range 8 {
			w.client(open(h, "/a", flagWrite))
			w.host(packet(typeHandle, h, fmt.Sprint(h)))
			for i := range 64 {
				w.client(write(100+i, fmt.Sprint(h), uint64(1000-i)<<20, make([]byte, 128<<10)))
				w.host(ok(100 + i))
				if w.o.waiting > maxWaiting {
					t.Fatalf("%d bytes wait", w.o.waiting)
				}
			}
		}
		if w.err != nil {
			t.Fatal(w.err)
		}
	})
	t.Run("a packet that never ends", func(t *testing.T) {
		w := newWorld(t, Config{})
		w.cut = 1000
		w.client(packet(typeStat, 1, strings.Repeat("a", maxPacket-9))[:maxPacket-1])
		if w.err != nil || len(w.toHost) > 0 {
			t.Errorf("%v, %d bytes went on", w.err, len(w.toHost))
		}
		if n := cap(w.o.client.framer.held); n > 2*maxPacket {
			t.Errorf("%d bytes are held", n)
		}
		if client, _, _ := w.o.End(); len(client) != maxPacket-1 {
			t.Errorf("%d bytes are left for the recording", len(client))
		}
	})
}

// TestLate: answers that come in another order than the requests belong to the file all the same.
func TestLate(t *testing.T) {
	w := newWorld(t, Config{})
	w.client(open(1, "/a", flagRead))
	w.host(packet(typeHandle, 1, "h"))
	w.client(packet(typeRead, 2, "h", uint64(0), 3), packet(typeRead, 3, "h", uint64(3), 3), packet(typeClose, 4, "h"))
	w.host(ok(4), packet(typeData, 3, "def"))
	if len(w.ended()) > 0 {
		t.Error("the file has ended before its last bytes came")
	}
	w.host(packet(typeData, 2, "abc"))
	want := []Operation{{Number: 1, Kind: Read, Outcome: Success, Path: "/a", Flags: "read", Read: &Transfer{Bytes: 6, Runs: []Run{{0, 6, sum([]byte("abcdef"))}}}}}
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCutInContent: what was under way when a channel ended amid the bytes of a file has an outcome.
func TestCutInContent(t *testing.T) {
	w := newWorld(t, Config{})
	w.client(open(1, "/a", flagRead))
	w.host(packet(typeHandle, 1, "h"))
	w.client(packet(typeRead, 2, "h", uint64(0), 6), packet(typeClose, 4, "h"))
	data := packet(typeData, 2, "abcdef")
	w.host(ok(4), data[:len(data)-3])
	w.end()
	want := []Operation{{Number: 1, Kind: Read, Outcome: Unknown, Reason: brokenText, Path: "/a", Flags: "read", Read: &Transfer{Bytes: 3, Runs: []Run{{0, 3, sum([]byte("abc"))}}}}}
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
