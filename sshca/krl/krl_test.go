package krl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// everyKind is a list with each kind of entry, in no order and with repeats.
func everyKind(t testing.TB) List {
	front, host := public(t, "front CA"), public(t, "host CA")
	return List{Version: 7, Generated: made.Add(500 * time.Millisecond), Comment: "sega.corp.example",
		CAs: []Certificates{
			{CA: host, Serials: []Range{Serial(9), {1 << 32, 1<<32 + 999}, Serial(8), {1<<32 + 900, 1<<32 + 1000}}},
			{CA: front, KeyIDs: []string{"old laptop", "b", "old laptop"}, Serials: []Range{Serial(math.MaxUint64), {4, 6}}},
			{CA: host, Serials: []Range{Serial(20), Serial(9)}},
			{CA: public(t, "a CA without any")},
		},
		Keys:   []ssh.PublicKey{public(t, "retired CA"), public(t, "stolen key"), public(t, "retired CA")},
		Hashes: []Hash{HashOf(public(t, "hashed key")), HashOf(public(t, "another")), HashOf(public(t, "hashed key"))},
	}
}

// TestBytes holds the writer to the format byte for byte: a change of one of them is a change for every sshd.
func TestBytes(t *testing.T) {
	ca := public(t, "front CA")
	blob := hex.EncodeToString(ca.Marshal())
	header := "5353484b524c0a00" + "00000001" + "0000000000000007" + "0000000069a42a40" + "0000000000000000" + "00000000"
	section := func(kind string, size string, body string) string { return kind + size + body }
	for name, tt := range map[string]struct {
		list List
		want string
	}{
		"nothing":   {List{Version: 7, Generated: made}, header + "00000000"},
		"a comment": {List{Version: 7, Generated: made, Comment: "x"}, header + "0000000178"},
		"singles and a pair in one list, a run of three as a range": {
			List{Version: 7, Generated: made, CAs: []Certificates{{CA: ca, Serials: []Range{Serial(12), Serial(1), Serial(2), {5, 7}}}}},
			header + "00000000" + section("01", "0000006d", "00000033"+blob+"00000000"+
				"20"+"00000018"+"0000000000000001"+"0000000000000002"+"000000000000000c"+"21"+"00000010"+"0000000000000005"+"0000000000000007")},
		"a key ID": {List{Version: 7, Generated: made, CAs: []Certificates{{CA: ca, KeyIDs: []string{"id"}}}},
			header + "00000000" + section("01", "00000046", "00000033"+blob+"00000000"+"23"+"00000006"+"00000002"+"6964")},
		"a key":  {List{Version: 7, Generated: made, Keys: []ssh.PublicKey{ca}}, header + "00000000" + "02" + "00000037" + "00000033" + blob},
		"a hash": {List{Version: 7, Generated: made, Hashes: []Hash{{0xab}}}, header + "00000000" + "05" + "00000024" + "00000020" + "ab" + strings.Repeat("00", 31)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hex.EncodeToString(marshal(t, tt.list)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestSameContentSameBytes: order, repeats and how ranges were cut do not show.
func TestSameContentSameBytes(t *testing.T) {
	want := marshal(t, everyKind(t))
	for range 20 {
		l := everyKind(t)
		for i := range l.CAs { // each range as its serials, in any order
			var single []Range
			for _, r := range l.CAs[i].Serials {
				for n := r.First; ; n++ {
					if single = append(single, Serial(n)); n == r.Last {
						break
					}
				}
			}
			rand.Shuffle(len(single), func(a, b int) { single[a], single[b] = single[b], single[a] })
			l.CAs[i].Serials = single
		}
		rand.Shuffle(len(l.CAs), func(a, b int) { l.CAs[a], l.CAs[b] = l.CAs[b], l.CAs[a] })
		rand.Shuffle(len(l.Keys), func(a, b int) { l.Keys[a], l.Keys[b] = l.Keys[b], l.Keys[a] })
		rand.Shuffle(len(l.Hashes), func(a, b int) { l.Hashes[a], l.Hashes[b] = l.Hashes[b], l.Hashes[a] })
		if got := marshal(t, l); !bytes.Equal(got, want) {
			t.Fatalf("got\n%x\nwant\n%x", got, want)
		}
	}
}

// TestArgumentStays: a list may be written twice, and by two at once.
func TestArgumentStays(t *testing.T) {
	l, was := everyKind(t), everyKind(t)
	marshal(t, l)
	for i := range l.CAs {
		if diff := cmp.Diff(was.CAs[i].Serials, l.CAs[i].Serials); diff != "" {
			t.Errorf("-was +is\n%s", diff)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	ca := public(t, "front CA")
	serials := func(r ...Range) List {
		return List{Version: 1, Generated: made, CAs: []Certificates{{CA: ca, Serials: r}}}
	}
	ids := func(id string) List {
		return List{Version: 1, Generated: made, CAs: []Certificates{{CA: ca, KeyIDs: []string{id}}}}
	}
	for name, l := range map[string]List{
		"no version":            {Generated: made},
		"before 1970":           {Version: 1, Generated: time.Unix(-1, 0)},
		"no time":               {Version: 1},
		"serial 0":              serials(Serial(0)),
		"a range from 0":        serials(Range{0, 5}),
		"a range inside out":    serials(Range{5, 4}),
		"an empty key ID":       ids(""),
		"a key ID with a NUL":   ids("a\x00b"),
		"a key ID of two lines": ids("a\nb"),
		"an endless key ID":     ids(strings.Repeat("a", maxText+1)),
		"a comment of Unicode":  {Version: 1, Generated: made, Comment: "ä"},
		"no CA":                 {Version: 1, Generated: made, CAs: []Certificates{{Serials: []Range{Serial(1)}}}},
		"a certificate as CA":   {Version: 1, Generated: made, CAs: []Certificates{{CA: certificate(t, signer(t, "front CA"), "x", 1, "x"), Serials: []Range{Serial(1)}}}},
		"a certificate as key":  {Version: 1, Generated: made, Keys: []ssh.PublicKey{certificate(t, signer(t, "front CA"), "x", 1, "x")}},
		"no key":                {Version: 1, Generated: made, Keys: []ssh.PublicKey{nil}},
	} {
		t.Run(name, func(t *testing.T) {
			if data, err := l.Marshal(); !errors.Is(err, ErrInvalid) || data != nil {
				t.Errorf("%d bytes, %v", len(data), err)
			}
		})
	}
}

func TestParse(t *testing.T) {
	data := marshal(t, everyKind(t))
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want, err := everyKind(t).canonical()
	if err != nil {
		t.Fatal(err)
	}
	byBlob := cmp.Comparer(func(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) })
	if diff := cmp.Diff(want, got, byBlob); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestParseRefuses: a list that was cut off anywhere, or changed anywhere so that it would say something in another
// form, is none.
func TestParseRefuses(t *testing.T) {
	data := marshal(t, everyKind(t))
	for n := range data {
		if _, err := Parse(data[:n]); err == nil && !whole(data, n) {
			t.Errorf("cut off after %d of %d bytes: accepted", n, len(data))
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"a byte more":            append(bytes.Clone(data), 0),
		"text":                   []byte("ssh-ed25519 AAAA\n"),
		"a signature section":    append(bytes.Clone(data), 4, 0, 0, 0, 0),
		"an extension section":   append(bytes.Clone(data), 255, 0, 0, 0, 0),
		"an empty section":       append(bytes.Clone(data), 5, 0, 0, 0, 0),
		"a section of SHA-1":     append(bytes.Clone(data), append([]byte{3, 0, 0, 0, 24, 0, 0, 0, 20}, make([]byte, 20)...)...),
		"keys behind the hashes": append(bytes.Clone(data), keySection(public(t, "z"))...),
		"a length of 4 GiB":      append(bytes.Clone(data), 2, 255, 255, 255, 255),
	} {
		if _, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x80
		l, err := Parse(bad)
		if err != nil {
			continue
		}
		if again := marshal(t, l); !bytes.Equal(again, bad) {
			t.Errorf("byte %d changed: two forms of one list", i)
		}
	}
}

// whole reports whether a list ends behind n bytes: what is left then is a shorter list.
func whole(data []byte, n int) bool {
	at := len(magic) + 4 + 8 + 8 + 8 + 4
	at += 4 + int(data[at+3])
	for at < n && at < len(data) {
		at += 5 + int(data[at+1])<<24 + int(data[at+2])<<16 + int(data[at+3])<<8 + int(data[at+4])
	}
	return at == n
}

func keySection(k ssh.PublicKey) []byte {
	return writer(nil).block(sectionKeys, func(w writer) writer { return w.string(string(k.Marshal())) })
}

// TestFewestBytes compares with every way to cut small sets of serials into one list and ranges.
func TestFewestBytes(t *testing.T) {
	for set := 1; set < 1<<10; set++ {
		var all []Range
		for n := range 10 {
			if set>>n&1 == 1 {
				all = append(all, Serial(uint64(n+1)))
			}
		}
		merged, err := mergeRanges(append([]Range(nil), all...))
		if err != nil {
			t.Fatal(err)
		}
		got := len(Certificates{CA: public(t, "front CA"), Serials: merged}.append(nil)) - len(Certificates{CA: public(t, "front CA")}.append(nil))
		if best := fewest(merged); got != best {
			t.Errorf("%v: %d bytes, %d would do", merged, got, best)
		}
	}
}

// fewest tries each run in the list and as a range.
func fewest(runs []Range) int {
	best := math.MaxInt
	for choice := range 1 << len(runs) {
		list, bytes := 0, 0
		for i, r := range runs {
			if choice>>i&1 == 1 {
				bytes += 1 + 4 + 16
			} else {
				list += int(r.Last - r.First + 1)
			}
		}
		if list > 0 {
			bytes += 1 + 4 + 8*list
		}
		best = min(best, bytes)
	}
	return best
}

// TestSizes are those of facts that operators plan with (docs/operations.md).
func TestSizes(t *testing.T) {
	sparse := make([]Range, 100_000)
	for i := range sparse {
		sparse[i] = Serial(uint64(2*i + 1))
	}
	for name, tt := range map[string]struct {
		serials []Range
		most    int
	}{
		"a million in a row":      {[]Range{{1 << 32, 1<<32 + 999_999}}, 200},
		"a hundred thousand, odd": {sparse, 8*100_000 + 200},
	} {
		if n := len(marshal(t, List{Version: 1, Generated: made, CAs: []Certificates{{CA: public(t, "front CA"), Serials: tt.serials}}})); n > tt.most {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
}

func TestTooLarge(t *testing.T) {
	many := make([]Range, MaxSize/8+1)
	for i := range many {
		many[i] = Serial(uint64(2*i + 1))
	}
	if _, err := (List{Version: 1, Generated: made, CAs: []Certificates{{CA: public(t, "front CA"), Serials: many}}}).Marshal(); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}
