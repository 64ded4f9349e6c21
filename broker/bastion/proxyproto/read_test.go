package proxyproto

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a header of version 2 without its length.
func v2(command, family byte, body string) string {
	return Signature + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

const (
	tcp4 = "\xc0\x00\x02\x01\xc0\x00\x02\x09\x9c\x40\x00\x16"
	tcp6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x9c\x40\x00\x16"
)

// summed adds the checksum field to a body.
func summed(body string) string {
	all := []byte(v2(0x21, overTCP4, body+"\x03\x00\x04\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(all[len(all)-4:], crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)))
	return string(all)
}

var headers = map[string]struct{ in, want string }{
	"v1 TCP4":                  {"PROXY TCP4 192.0.2.1 192.0.2.9 40000 22\r\n", "192.0.2.1:40000"},
	"v1 TCP6":                  {"PROXY TCP6 2001:db8::1 2001:db8::2 40000 22\r\n", "[2001:db8::1]:40000"},
	"v1 longest":               {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	"v1 UNKNOWN":               {"PROXY UNKNOWN\r\n", "own"},
	"v1 UNKNOWN with the rest": {"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "own"},
	"v1 mapped":                {"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1"},
	"v1 port 0":                {"PROXY TCP4 192.0.2.1 192.0.2.9 0 22\r\n", "192.0.2.1:0"},
	"v2 TCP4":                  {v2(0x21, overTCP4, tcp4), "192.0.2.1:40000"},
	"v2 TCP6":                  {v2(0x21, overTCP6, tcp6), "[2001:db8::1]:40000"},
	"v2 with fields":           {v2(0x21, overTCP4, tcp4+"\xea\x00\x02\x01x\x04\x00\x00"), "192.0.2.1:40000"},
	"v2 with a checksum":       {summed(tcp4), "192.0.2.1:40000"},
	"v2 LOCAL":                 {v2(0x20, overUnspecified, ""), "own"},
	"v2 LOCAL with addresses":  {v2(0x20, overTCP4, tcp4), "own"},
	"v2 unspecified":           {v2(0x21, overUnspecified, "anything"), "own"},

	"an SSH client":            {"SSH-2.0-OpenSSH_9.2\r\n", ""},
	"v1 lower case":            {"proxy TCP4 192.0.2.1 192.0.2.9 1 2\r\n", ""},
	"v1 without CR":            {"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\n", ""},
	"v1 two spaces":            {"PROXY  TCP4 192.0.2.1 192.0.2.9 1 2\r\n", ""},
	"v1 space at the end":      {"PROXY TCP4 192.0.2.1 192.0.2.9 1 2 \r\n", ""},
	"v1 family of another":     {"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", ""},
	"v1 v4 as TCP6":            {"PROXY TCP6 192.0.2.1 192.0.2.9 1 2\r\n", ""},
	"v1 families mixed":        {"PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n", ""},
	"v1 zone":                  {"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", ""},
	"v1 leading zero in v4":    {"PROXY TCP4 192.000.2.1 192.0.2.9 1 2\r\n", ""},
	"v1 leading zero in port":  {"PROXY TCP4 192.0.2.1 192.0.2.9 01 2\r\n", ""},
	"v1 port too high":         {"PROXY TCP4 192.0.2.1 192.0.2.9 65536 2\r\n", ""},
	"v1 signed port":           {"PROXY TCP4 192.0.2.1 192.0.2.9 +1 2\r\n", ""},
	"v1 destination port":      {"PROXY TCP4 192.0.2.1 192.0.2.9 1 x\r\n", ""},
	"v1 UDP":                   {"PROXY UDP4 192.0.2.1 192.0.2.9 1 2\r\n", ""},
	"v1 UNKNOWNS":              {"PROXY UNKNOWNS\r\n", ""},
	"v1 nothing":               {"PROXY \r\n", ""},
	"v1 too long":              {"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", ""},
	"v2 wrong signature":       {strings.Replace(v2(0x21, overTCP4, tcp4), "QUIT", "QUIZ", 1), ""},
	"v2 version 1":             {v2(0x11, overTCP4, tcp4), ""},
	"v2 unknown command":       {v2(0x22, overTCP4, tcp4), ""},
	"v2 UDP":                   {v2(0x21, 0x12, tcp4), ""},
	"v2 unix":                  {v2(0x21, 0x31, strings.Repeat("x", 216)), ""},
	"v2 too short":             {v2(0x21, overTCP4, tcp4[:11]), ""},
	"v2 TCP6 with TCP4's":      {v2(0x21, overTCP6, tcp4), ""},
	"v2 field cut off":         {v2(0x21, overTCP4, tcp4+"\x04\x00"), ""},
	"v2 field too long":        {v2(0x21, overTCP4, tcp4+"\x04\x00\x09x"), ""},
	"v2 wrong checksum":        {v2(0x21, overTCP4, tcp4+"\x03\x00\x04abcd"), ""},
	"v2 checksum of no length": {v2(0x21, overTCP4, tcp4+"\x03\x00\x00"), ""},
	"v2 too long":              {v2(0x21, overTCP4, tcp4+strings.Repeat("\x04\x00\x00", 1500)), ""},
}

func TestRead(t *testing.T) {
	const behind = "SSH-2.0-x\r\n"
	for name, c := range headers {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(c.in+behind)), 8<<10)
			got, err := Read(r)
			switch {
			case c.want == "":
				if !errors.Is(err, ErrHeader) {
					t.Fatalf("taken as %v, %v", got, err)
				}
				return
			case err != nil:
				t.Fatal(err)
			case c.want == "own" && got.IsValid(), c.want != "own" && got.String() != c.want:
				t.Errorf("got %v, want %s", got, c.want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != behind {
				t.Errorf("left %q", rest)
			}
		})
	}
}

// TestReadWaitsForNoMore: what is no header is refused at the byte that shows it, and what is one needs
// not a byte behind it.
func TestReadWaitsForNoMore(t *testing.T) {
	for _, in := range []string{"S", "PROXX", "\r\n\r\nX"} {
		if _, err := Read(bufio.NewReaderSize(strings.NewReader(in), 8<<10)); !errors.Is(err, ErrHeader) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for name, c := range headers {
		for n := range len(c.in) {
			if c.want == "" {
				break
			}
			if _, err := Read(bufio.NewReaderSize(strings.NewReader(c.in[:n]), 8<<10)); err == nil || errors.Is(err, ErrHeader) {
				t.Fatalf("%s, cut off at %d: %v", name, n, err)
			}
		}
	}
}

// FuzzRead: whatever is taken reads back as itself, and nothing behind it is touched.
func FuzzRead(f *testing.F) {
	for _, c := range headers {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(strings.NewReader(string(in)), 8<<10)
		got, err := Read(r)
		if err != nil || !got.IsValid() {
			return
		}
		if got.Addr().Zone() != "" || got.Addr().Is4In6() {
			t.Fatalf("an address of an odd form: %v", got)
		}
		rest, _ := io.ReadAll(r)
		if !strings.HasSuffix(string(in), string(rest)) || len(rest) == len(in) {
			t.Fatalf("%q left %q", in, rest)
		}
		family, other := "TCP4", netip.IPv4Unspecified()
		if got.Addr().Is6() {
			family, other = "TCP6", netip.IPv6Unspecified()
		}
		line := Line + strings.Join([]string{family, got.Addr().String(), other.String()}, " ") + " " + portOf(got) + " 0\r\n"
		if again, err := Read(bufio.NewReader(strings.NewReader(line))); err != nil || again != got {
			t.Errorf("%q became %v, %v, was %v", line, again, err, got)
		}
	})
}

func portOf(a netip.AddrPort) string { return a.String()[strings.LastIndex(a.String(), ":")+1:] }
