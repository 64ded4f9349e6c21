package sts

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"sega/keychain/atomicfile"
	"sega/keychain/secret"
)

// principal is who signed a request.
type principal struct {
	arn, userID    string
	role           string // ARN of the role whose session this double issued; empty otherwise
	sourceIdentity string
	transitive     []tag
}

// session reports whether the principal is an assumed role, so that its AssumeRole is chaining.
func (p principal) session() bool { return sessionARN.MatchString(p.arn) }

var accountRule = regexp.MustCompile(`\Aarn:[^:]*:[^:]*:[^:]*:([0-9]{12}):`)

func (p principal) account() string {
	if m := accountRule.FindStringSubmatch(p.arn); m != nil {
		return m[1]
	}
	return ""
}

// issued is a role session of this double.
type issued struct {
	keyID         string
	secret, token secret.Secret
	principal     principal
	expires       time.Time
	chained       bool // made by an assumed role
}

// keepExpired is how long an expired session still answers ExpiredToken, and not as unknown.
const keepExpired = 24 * time.Hour

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// issue makes a session of role for p. The token's size is like AWS's.
func issue(a assumption, p principal, now time.Time) issued {
	m := roleARN.FindStringSubmatch(a.roleARN)
	key, secretKey, token := make([]byte, 10), make([]byte, 30), make([]byte, 240)
	rand.Read(key)
	rand.Read(secretKey)
	rand.Read(token)
	return issued{
		keyID:  "ASIA" + keyEncoding.EncodeToString(key),
		secret: secret.FromString(base64.StdEncoding.EncodeToString(secretKey)),
		token:  secret.FromString("FwoGZXIvYXdzE" + base64.StdEncoding.EncodeToString(token)),
		principal: principal{
			arn:    "arn:" + partition(a.roleARN) + ":sts::" + m[1] + ":assumed-role/" + m[2] + "/" + a.sessionName,
			userID: uniqueID("AROA", a.roleARN) + ":" + a.sessionName, role: a.roleARN,
			sourceIdentity: a.sourceIdentity, transitive: a.inherited(p),
		},
		expires: now.Add(a.duration).UTC().Truncate(time.Second), chained: p.session(),
	}
}

func partition(arn string) string { return string(bytes.SplitN([]byte(arn), []byte(":"), 3)[1]) }

// uniqueID returns an ID in AWS's form that is the same for an ARN in every run.
func uniqueID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + keyEncoding.EncodeToString(sum[:])[:17]
}

// principal returns who a long-lived key speaks for.
func (k Caller) principal() principal {
	if m := sessionARN.FindStringSubmatch(k.ARN); m != nil {
		return principal{arn: k.ARN, userID: uniqueID("AROA", m[1]+m[2]) + ":" + m[3]}
	}
	return principal{arn: k.ARN, userID: uniqueID("AIDA", k.ARN)}
}

// record is an issued session in the state file. The file holds the double's own secrets, which
// open nothing else; it is 0600 all the same.
type record struct {
	KeyID          string    `json:"access_key_id"`
	Secret         string    `json:"secret_access_key"`
	Token          string    `json:"session_token"`
	ARN            string    `json:"arn"`
	UserID         string    `json:"user_id"`
	Role           string    `json:"role"`
	SourceIdentity string    `json:"source_identity"`
	Transitive     []tag     `json:"transitive_tags"`
	Expires        time.Time `json:"expires"`
	Chained        bool      `json:"chained"`
}

// load reads the state file; a missing one is an empty state.
func load(path string) (map[string]issued, error) {
	sessions := map[string]issued{}
	data, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return sessions, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sts: read the state file: %w", err)
	}
	var records []record
	if err := json.Unmarshal(data, &records); err != nil {
		return nil, fmt.Errorf("sts: the state file %s is not of this program; move it away", path)
	}
	for _, r := range records {
		sessions[r.KeyID] = issued{keyID: r.KeyID, secret: secret.FromString(r.Secret), token: secret.FromString(r.Token), expires: r.Expires, chained: r.Chained,
			principal: principal{arn: r.ARN, userID: r.UserID, role: r.Role, sourceIdentity: r.SourceIdentity, transitive: r.Transitive}}
	}
	return sessions, nil
}

// save replaces the state file, so that a crash leaves the old or the new one.
func save(path string, sessions map[string]issued) error {
	if path == "" {
		return nil
	}
	records := make([]record, 0, len(sessions))
	for _, s := range sessions {
		p := s.principal
		records = append(records, record{s.keyID, string(s.secret.Reveal()), string(s.token.Reveal()), p.arn, p.userID, p.role, p.sourceIdentity, p.transitive, s.expires, s.chained})
	}
	data, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("sts: encode the state: %w", err)
	}
	if err := atomicfile.Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("sts: write %s: %w", path, err)
	}
	return nil
}
