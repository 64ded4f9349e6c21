package proxyproto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// ErrHeader is wrapped by every error that the bytes of a header are at fault for.
var ErrHeader = errors.New("not a header of the PROXY protocol")

const (
	maxV1 = 107       // bytes of a line of version 1, its end included
	maxV2 = 16 + 4096 // bytes of a header of version 2: the format allows 64 KiB, and nobody sends that
)

// Signature is what a header of version 2 begins with, and Line what one of version 1 does.
const (
	Signature = "\r\n\r\n\x00\r\nQUIT\n"
	Line      = "PROXY "
)

// Read takes exactly one header off r, whose buffer must have 4,112 bytes at least, and returns the
// address of the client. Where the proxy speaks for itself (LOCAL, UNKNOWN: its health checks) or for something without an IP address,
// the address is not valid and the connection's own stands. An error that wraps ErrHeader means that
// the bytes are no header; any other is of r.
func Read(r *bufio.Reader) (netip.AddrPort, error) {
	first, err := r.Peek(1)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if first[0] == Signature[0] {
		return readV2(r)
	}
	return readV1(r)
}

// readV1 reads "PROXY TCP4 192.0.2.1 192.0.2.9 40000 22\r\n". It looks at each byte before it waits for
// the next, so that what is something else is not waited for.
func readV1(r *bufio.Reader) (none netip.AddrPort, err error) {
	var line []byte
	for len(line) < maxV1 {
		c, err := r.ReadByte()
		if err != nil {
			return none, err
		}
		line = append(line, c)
		if i := len(line) - 1; i < len(Line) && c != Line[i] {
			return none, fmt.Errorf("%w: it begins with %q", ErrHeader, line)
		}
		if c == '\n' {
			return parseV1(string(line))
		}
	}
	return none, fmt.Errorf("%w: its line is too long", ErrHeader)
}

func parseV1(line string) (none netip.AddrPort, err error) {
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return none, fmt.Errorf("%w: its line does not end with CR LF", ErrHeader)
	}
	fields := strings.Split(line, " ")
	if len(fields) > 1 && fields[1] == "UNKNOWN" {
		return none, nil // the specification has the rest ignored
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return none, fmt.Errorf("%w: it is not PROXY TCP4 or TCP6 with two addresses and two ports", ErrHeader)
	}
	source, err := endpoint(fields[1], fields[2], fields[4])
	if err != nil {
		return none, err
	}
	if _, err := endpoint(fields[1], fields[3], fields[5]); err != nil {
		return none, err
	}
	return source, nil
}

// endpoint reads one address in the form of its family, and one port without leading zeros.
func endpoint(family, address, port string) (none netip.AddrPort, err error) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return none, fmt.Errorf("%w: an address is not of %s", ErrHeader, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return none, fmt.Errorf("%w: a port is none", ErrHeader)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// Families of version 2, with the transport STREAM.
const (
	overUnspecified = 0x00
	overTCP4        = 0x11
	overTCP6        = 0x21
)

func readV2(r *bufio.Reader) (none netip.AddrPort, err error) {
	for n := 1; n <= len(Signature); n++ { // see readV1
		got, err := r.Peek(n)
		if err != nil {
			return none, err
		}
		if got[n-1] != Signature[n-1] {
			return none, fmt.Errorf("%w: its signature is wrong", ErrHeader)
		}
	}
	head, err := r.Peek(16)
	if err != nil {
		return none, err
	}
	size := 16 + int(binary.BigEndian.Uint16(head[14:]))
	if size > maxV2 {
		return none, fmt.Errorf("%w: it has %d bytes", ErrHeader, size)
	}
	all, err := r.Peek(size)
	if err != nil {
		return none, err
	}
	source, err := parseV2(bytes.Clone(all))
	if err == nil {
		_, err = r.Discard(size)
	}
	return source, err
}

// parseV2 reads a whole header, which it may change.
func parseV2(all []byte) (none netip.AddrPort, err error) {
	command, family, rest := all[12], all[13], all[16:]
	if command>>4 != 2 || command&0xf > 1 {
		return none, fmt.Errorf("%w: version and command are %#x", ErrHeader, command)
	}
	if command&0xf == 0 || family == overUnspecified { // whatever addresses there are do not count
		return none, nil
	}
	length, ok := map[byte]int{overTCP4: 4, overTCP6: 16}[family]
	if !ok {
		return none, fmt.Errorf("%w: family and transport are %#x", ErrHeader, family)
	}
	if len(rest) < 2*length+4 { // two addresses, two ports
		return none, fmt.Errorf("%w: it is too short for its addresses", ErrHeader)
	}
	address, _ := netip.AddrFromSlice(rest[:length])
	source := netip.AddrPortFrom(address.Unmap(), binary.BigEndian.Uint16(rest[2*length:]))
	return source, checkFields(all, rest[2*length+4:])
}

const fieldCRC32C = 0x03

// checkFields walks the type-length-value fields behind the addresses, of which none changes the
// source, and verifies the checksum where there is one.
func checkFields(all, rest []byte) error {
	for len(rest) > 0 {
		if len(rest) < 3 {
			return fmt.Errorf("%w: a field is cut off", ErrHeader)
		}
		kind, n := rest[0], int(binary.BigEndian.Uint16(rest[1:]))
		if rest = rest[3:]; len(rest) < n {
			return fmt.Errorf("%w: a field is cut off", ErrHeader)
		}
		if kind == fieldCRC32C && !sumMatches(all, rest[:n]) {
			return fmt.Errorf("%w: its checksum is wrong", ErrHeader)
		}
		rest = rest[n:]
	}
	return nil
}

// sumMatches compares the CRC-32C of a header with its field, which lies within it and counts as zero.
func sumMatches(all, field []byte) bool {
	if len(field) != 4 {
		return false
	}
	want := binary.BigEndian.Uint32(field)
	clear(field)
	return crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)) == want
}
