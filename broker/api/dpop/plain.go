package dpop

import (
	"bytes"
	"strconv"
	"time"
)

// plainHeader reads a header as Key.Proof writes it, without encoding/json and its allocations. Whatever is not exactly
// that it leaves to parseHeader: ok is false then, and says nothing about the header.
func plainHeader(data []byte) (key jwk, ok bool) {
	s := scanner{rest: data, ok: true}
	s.literal(`{"typ":"dpop+jwt","alg":"ES256","jwk":{`)
	key = jwk{Crv: s.field(`"crv":`), Kty: s.field(`,"kty":`), X: s.field(`,"x":`), Y: s.field(`,"y":`)}
	s.literal(`}}`)
	return key, s.ended()
}

// plainClaims is plainHeader for claims of a request with a session, which has a nonce, too.
func plainClaims(data []byte, thumbprint string) (p Proof, ok bool) {
	s := scanner{rest: data, ok: true}
	p = Proof{Thumbprint: thumbprint, JTI: s.field(`{"jti":`), Method: s.field(`,"htm":`), HTU: s.field(`,"htu":`)}
	iat := s.number(`,"iat":`)
	p.ATH, p.Nonce = s.field(`,"ath":`), s.field(`,"nonce":`)
	s.literal(`}`)
	if !s.ended() || p.JTI == "" || len(p.JTI) > maxJTI || p.Method == "" || p.HTU == "" || iat > maxIAT {
		return Proof{}, false
	}
	p.IssuedAt = time.Unix(iat, 0).UTC()
	return p, true
}

// scanner takes what must stand at the beginning of the rest; once it does not, nothing is taken any more.
type scanner struct {
	rest []byte
	ok   bool
}

func (s *scanner) ended() bool { return s.ok && len(s.rest) == 0 }

func (s *scanner) literal(want string) {
	if s.ok = s.ok && len(s.rest) >= len(want) && string(s.rest[:len(want)]) == want; s.ok {
		s.rest = s.rest[len(want):]
	}
}

// field takes a name and a string that stands for itself.
func (s *scanner) field(name string) string {
	s.literal(name)
	s.literal(`"`)
	end := bytes.IndexByte(s.rest, '"')
	if s.ok = s.ok && end >= 0 && itself(s.rest[:end]); !s.ok {
		return ""
	}
	text := string(s.rest[:end])
	s.rest = s.rest[end+1:]
	return text
}

// itself reports whether a string of JSON is printable ASCII without an escape.
func itself(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// number takes a name and an unsigned number as encoding/json writes it.
func (s *scanner) number(name string) int64 {
	s.literal(name)
	end := 0
	for end < len(s.rest) && s.rest[end] >= '0' && s.rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(s.rest[:end]), 10, 64)
	if s.ok = s.ok && err == nil && (end == 1 || s.rest[0] != '0'); !s.ok {
		return 0
	}
	s.rest = s.rest[end:]
	return n
}
