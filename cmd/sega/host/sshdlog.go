//go:build linux

package host

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sega/broker/api"
)

const (
	maxLogLine = 64 << 10 // bytes, of a line of a log
	maxMessage = 1 << 10  // of sshd's part of it, which sshd itself cuts there (log.c, MSGBUFSIZ)
	// maxBatch bounds what the logins of a batch say: six times as much in JSON, where every byte is escaped, still fits a
	// request. Whoever may write to the log could else have each reading of it fail.
	maxBatch = 128 << 10
)

// logReader finds the logins that sshd has accepted. Its patterns are made once for a reading.
type logReader struct {
	now      func() time.Time // with the zone in which syslog writes
	header   *regexp.Regexp   // what stands before a message in syslog's (RFC 3164, with a year or without) and journalctl's lines
	rfc5424  *regexp.Regexp   // in syslog's newer form: <PRI>1 TIME HOST APP-NAME PROCID MSGID SD MSG
	login    *regexp.Regexp   // sshd's auth_log(): "Accepted METHOD for USER from ADDRESS port PORT ssh2[: KEY]"
	cert     *regexp.Regexp   // format_key(): "TYPE FINGERPRINT ID KEY-ID (serial N) CA TYPE FINGERPRINT"
	likeness *regexp.Regexp   // of a login, in whatever stands around it
}

func newLogReader() logReader {
	return logReader{
		now:      time.Now,
		header:   regexp.MustCompile(`^(?:<[0-9]{1,3}>)?([^\[\]]{0,300}? )?([!-Z^-~]{1,128}?)(?:\[([0-9]+)\])?: (.*)$`),
		rfc5424:  regexp.MustCompile(`^(?:<[0-9]{1,3}>)?1 ([!-~]+) [!-~]+ ([!-~]+) ([!-~]+) [!-~]+ (?:-|(?:\[(?:[^\]\\]|\\.)*\])+) \x{FEFF}?(.*)$`),
		login:    regexp.MustCompile(`^Accepted ([!-~]+) for (.+) from ([!-~]+) port [0-9]+ ssh2(?:: (.*))?$`),
		cert:     regexp.MustCompile(`^[!-~]+ (SHA256:[A-Za-z0-9+/]+) ID (.*) \(serial ([0-9]+)\) CA [!-~]+ SHA256:[A-Za-z0-9+/]+$`),
		likeness: regexp.MustCompile(`Accepted [!-~]+ for .+ from [!-~]+ port [0-9]+`),
	}
}

// What a line of a log is.
type lineKind int

const (
	lineOther  lineKind = iota
	lineLogin           // that sshd has accepted
	lineUnread          // of sshd's about a login, it seems, in a form that is not known
)

// said is a line without what syslog puts around a message.
type said struct{ stamp, program, process, message string }

// connection tells logins apart, and is the same in whatever form of the log one stands: what sshd says of it has its client's port, and
// beside that stands the process. `sshd -e` names none.
func (s said) connection(message string) string {
	if s.process == "" {
		return digestOf(message)
	}
	return digestOf(message) + "/" + s.process
}

// split takes a line apart; false where it is of no form that is known.
func (p logReader) split(line string) (said, bool) {
	if strings.HasPrefix(line, "Accepted ") {
		return said{program: "sshd", message: line}, true // of sshd -e
	}
	if m := p.rfc5424.FindStringSubmatch(line); m != nil {
		return said{m[1], m[2], m[3], m[4]}, true
	}
	if m := p.header.FindStringSubmatch(line); m != nil {
		return said{m[1], m[2], m[3], m[4]}, true
	}
	return said{}, false
}

// parse reads a line of a log. What of a login's line cannot be read as its certificate is no login of a session, and comes out as
// one that nothing covers.
func (p logReader) parse(line string) (api.HostLogin, lineKind) {
	line = strings.TrimRight(line, "\r\n")
	s, known := p.split(line)
	switch {
	case !known && p.likeness.MatchString(line),
		known && s.program != "sshd" && s.program != "sshd-session" && strings.Contains(s.program, "ssh") && p.login.MatchString(s.message):
		return api.HostLogin{}, lineUnread
	case s.program != "sshd" && s.program != "sshd-session" || !strings.HasPrefix(s.message, "Accepted "):
		return api.HostLogin{}, lineOther
	case strings.HasPrefix(s.message, "Accepted certificate ID "), strings.HasPrefix(s.message, "Accepted key "):
		return api.HostLogin{}, lineOther // comes before the login, and says no more
	}
	message := s.message[:min(len(s.message), maxMessage)]
	m := p.login.FindStringSubmatch(message)
	if m == nil {
		return api.HostLogin{}, lineUnread
	}
	l := api.HostLogin{Line: digestOf(line), Connection: s.connection(message), Time: timeOf(s.stamp, p.now()), Method: m[1], Login: m[2], Source: m[3]}
	if c := p.cert.FindStringSubmatch(m[4]); c != nil {
		l.Fingerprint, l.KeyID = c[1], strings.Trim(c[2], `"`)
		l.Serial, _ = strconv.ParseUint(c[3], 10, 64) // 0 is no certificate's
		return l, lineLogin
	}
	if _, fingerprint, found := strings.Cut(m[4], " "); found {
		l.Fingerprint, _, _ = strings.Cut(fingerprint, " ")
	}
	return l, lineLogin
}

// digestOf tells lines apart: their time, their process and the port of the client are in it.
func digestOf(line string) string {
	sum := sha256.Sum256([]byte(line))
	return hex.EncodeToString(sum[:16])
}

// timeOf reads the time at the beginning of a line, now in the zone of whoever wrote it; zero where there is none.
func timeOf(stamp string, now time.Time) time.Time {
	words := strings.Fields(stamp)
	if len(words) == 0 {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} { // the second is journalctl's, of most versions
		if t, err := time.Parse(layout, words[0]); err == nil {
			return t
		}
	}
	if len(words) < 3 {
		return time.Time{}
	}
	t, err := time.Parse("Jan 2 15:04:05", strings.Join(words[:3], " "))
	if err != nil {
		return time.Time{}
	}
	return yearly(t, now)
}

// yearly puts a time of syslog's (RFC 3164 4.1.2), which names neither year nor zone, into the latest year in which it has been. Two
// clocks may differ by a minute; 29 February comes after eight years at most.
func yearly(t, now time.Time) time.Time {
	for back := range 9 {
		u := time.Date(now.Year()+1-back, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
		if u.Day() == t.Day() && !u.After(now.Add(time.Minute)) {
			return u
		}
	}
	return time.Time{}
}

// read hands on the logins of a log, in batches, and counts the lines of sshd's that it cannot read.
func (p logReader) read(r io.Reader, each func([]api.HostLogin) error) (unread int, err error) {
	lines := bufio.NewReaderSize(r, maxLogLine)
	var batch []api.HostLogin
	size := 0
	for {
		line, err := lines.ReadSlice('\n')
		l, kind := p.parse(string(line))
		switch kind {
		case lineUnread:
			unread++
		case lineLogin:
			batch = append(batch, l)
			size += len(l.Login) + len(l.Source) + len(l.Method) + len(l.Fingerprint) + len(l.KeyID)
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a line that is none of sshd's
			_, err = lines.ReadSlice('\n')
		}
		if len(batch) == api.MaxHostLogins || size >= maxBatch || err != nil && len(batch) > 0 {
			if sendErr := each(batch); sendErr != nil {
				return unread, sendErr
			}
			batch, size = nil, 0
		}
		if errors.Is(err, io.EOF) {
			return unread, nil
		}
		if err != nil {
			return unread, fmt.Errorf("read the log: %w", err)
		}
	}
}
