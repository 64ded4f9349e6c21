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
	program *regexp.Regexp // what stands before sshd's message in syslog's and journalctl's lines
	login   *regexp.Regexp // sshd's auth_log(): "Accepted METHOD for USER from ADDRESS port PORT ssh2[: KEY]"
	cert    *regexp.Regexp // format_key(): "TYPE FINGERPRINT ID KEY-ID (serial N) CA TYPE FINGERPRINT"
}

func newLogReader() logReader {
	return logReader{
		program: regexp.MustCompile(`^([^\[\]]{0,300}? )?(?:sshd|sshd-session)(?:\[[0-9]+\])?: (Accepted .*)$`),
		login:   regexp.MustCompile(`^Accepted ([!-~]+) for (.+) from ([!-~]+) port [0-9]+ ssh2(?:: (.*))?$`),
		cert:    regexp.MustCompile(`^[!-~]+ (SHA256:[A-Za-z0-9+/]+) ID (.*) \(serial ([0-9]+)\) CA [!-~]+ SHA256:[A-Za-z0-9+/]+$`),
	}
}

// parse reads a line of sshd's log; false where it is of no login that was accepted. What a line cannot be read as is
// no login of a session, and comes out as one that nothing covers.
func (p logReader) parse(line string) (api.HostLogin, bool) {
	line = strings.TrimRight(line, "\r\n")
	message, stamp := line, ""
	if m := p.program.FindStringSubmatch(line); m != nil {
		stamp, message = m[1], m[2]
	}
	if !strings.HasPrefix(message, "Accepted ") {
		return api.HostLogin{}, false
	}
	m := p.login.FindStringSubmatch(message[:min(len(message), maxMessage)])
	if m == nil {
		return api.HostLogin{}, false // "Accepted certificate ID …" comes before the login, and says no more
	}
	l := api.HostLogin{Line: digestOf(line), Time: timeOf(stamp), Method: m[1], Login: m[2], Source: m[3]}
	if c := p.cert.FindStringSubmatch(m[4]); c != nil {
		l.Fingerprint, l.KeyID = c[1], strings.Trim(c[2], `"`)
		l.Serial, _ = strconv.ParseUint(c[3], 10, 64) // 0 is no certificate's
		return l, true
	}
	if _, fingerprint, found := strings.Cut(m[4], " "); found {
		l.Fingerprint, _, _ = strings.Cut(fingerprint, " ")
	}
	return l, true
}

// digestOf tells lines apart: their time, their process and the port of the client are in it.
func digestOf(line string) string {
	sum := sha256.Sum256([]byte(line))
	return hex.EncodeToString(sum[:16])
}

// timeOf reads the time at the beginning of a line, where it has a year.
func timeOf(stamp string) time.Time {
	word, _, _ := strings.Cut(stamp, " ")
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, word); err == nil {
			return t
		}
	}
	return time.Time{}
}

// read hands on the logins of a log, in batches.
func (p logReader) read(r io.Reader, each func([]api.HostLogin) error) error {
	lines := bufio.NewReaderSize(r, maxLogLine)
	var batch []api.HostLogin
	size := 0
	for {
		line, err := lines.ReadSlice('\n')
		if l, ok := p.parse(string(line)); ok {
			batch = append(batch, l)
			size += len(l.Login) + len(l.Source) + len(l.Method) + len(l.Fingerprint) + len(l.KeyID)
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a line that is none of sshd's
			_, err = lines.ReadSlice('\n')
		}
		if len(batch) == api.MaxHostLogins || size >= maxBatch || err != nil && len(batch) > 0 {
			if sendErr := each(batch); sendErr != nil {
				return sendErr
			}
			batch, size = nil, 0
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
}
