package bastion

import (
	"bytes"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxVersion bounds the line in which a client names its software (RFC 4253 section 4.2).
const maxVersion = 255

// greeted is a connection on which the bastion has sent its version line already, in order to see the
// client's before the key exchange is offered. What x/crypto sends of that line does not go out again.
type greeted struct {
	net.Conn
	said int // bytes of the line that x/crypto has not sent yet
}

// Write implements net.Conn.
func (g *greeted) Write(p []byte) (int, error) {
	again := min(g.said, len(p))
	g.said -= again
	if again == len(p) {
		return again, nil
	}
	n, err := g.Conn.Write(p[again:])
	return again + n, err
}

// greet sends the bastion's version and returns the line with the client's, which x/crypto will read
// again. It is "" where none comes that RFC 4253 allows: x/crypto says then what is wrong. Only a server
// may send other lines before it (§4.2), which x/crypto skips on either side: what begins with anything
// else, a PROXY header of somebody who is none of the listed proxies, say, is errNotSSH at its first byte.
func greet(c *bufferedConn) (*greeted, string, error) {
	line := serverVersion + "\r\n"
	if _, err := c.Write([]byte(line)); err != nil {
		return nil, "", err
	}
	g := &greeted{Conn: c, said: len(line)}
	for n := 1; n <= maxVersion; n = c.r.Buffered() + 1 {
		if _, err := c.r.Peek(n); err != nil {
			return g, "", nil // x/crypto meets the same end
		}
		seen, _ := c.r.Peek(c.r.Buffered())
		if first := seen[:min(len(seen), len(identification))]; !strings.HasPrefix(identification, string(first)) {
			return nil, "", fmt.Errorf("%w: it begins with %q", errNotSSH, first)
		}
		if version, _, whole := bytes.Cut(seen, []byte("\n")); whole {
			return g, strings.TrimSuffix(string(version), "\r"), nil
		}
	}
	return g, "", nil
}

// ciphersFor adds AES-CTR for paramiko, which knew no AES-GCM before 3.5. Nobody else is offered it:
// OpenSSH before 10.0 would choose it before GCM, at more processor time. The MAC is then
// encrypt-then-MAC alone.
func ciphersFor(version string) []string {
	ciphers := algorithms().Ciphers
	if strings.HasPrefix(version, "SSH-2.0-paramiko_") {
		ciphers = append(ciphers, ssh.CipherAES128CTR, ssh.CipherAES256CTR)
	}
	return ciphers
}
