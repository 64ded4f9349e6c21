package endpoint

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sega/broker/api"
)

// Paths and headers of EC2's instance metadata, version 2.
// Source: Amazon EC2 user guide, "Use the Instance Metadata Service".
const (
	tokenPath       = "/latest/api/token"
	credentialsPath = "/latest/meta-data/iam/security-credentials"
	headerToken     = "X-Aws-Ec2-Metadata-Token"
	headerTTL       = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL          = 21600
)

// MetadataConfig says whose credentials a Metadata gives.
type MetadataConfig struct {
	Source  Source
	Request api.CredentialsRequest // of the one role that it knows
	Region  string                 // "": none is told
	Now     func() time.Time       // nil: time.Now
	Wait    time.Duration          // for the Source; 0: 50 s
}

// Metadata is an http.Handler that speaks as much of EC2's instance metadata as SDKs need for
// credentials and a region. Whoever on this machine asks gets them: there is no secret in between,
// only what keeps out pages and proxies. Version 1, a GET without a token, is refused.
type Metadata struct {
	cfg    MetadataConfig
	tokens *tokens
}

// NewMetadata checks the configuration.
func NewMetadata(c MetadataConfig) (*Metadata, error) {
	if c.Source == nil {
		return nil, errors.New("endpoint: no source")
	}
	if !printable(c.Request.Role) {
		return nil, errors.New("endpoint: metadata is of one role, and there is none")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	return &Metadata{cfg: c, tokens: newTokens(c.Now)}, nil
}

// Forget makes every token void that was given until now.
func (m *Metadata) Forget() { m.tokens.forget() }

// ServeHTTP answers one request of an SDK.
func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refusal := guard(r)
	switch {
	case refusal != nil:
		writeProblem(w, refusal)
	case r.Method == http.MethodPut && r.URL.Path == tokenPath:
		m.giveToken(w, r)
	case r.Method == http.MethodPut:
		writeProblem(w, api.Errorf(api.KindNotFound, "only %s is put", tokenPath))
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", "GET, PUT")
		writeProblem(w, api.Errorf(api.KindMethod, "metadata is got by GET, its token by PUT"))
	case !m.tokens.good(r.Header.Values(headerToken)):
		writeProblem(w, api.Errorf(api.KindUnauthenticated, "metadata wants a token of %s (version 2)", tokenPath))
	default:
		m.get(w, r)
	}
}

func (m *Metadata) giveToken(w http.ResponseWriter, r *http.Request) {
	seconds, ok := ttl(r.Header.Values(headerTTL))
	if !ok {
		writeProblem(w, api.Errorf(api.KindInvalid, "the header %s is a number from 1 to %d", headerTTL, maxTTL))
		return
	}
	w.Header().Set(headerTTL, strconv.Itoa(seconds)) // Go's SDK wants it back
	write(w, http.StatusOK, "text/plain", []byte(m.tokens.give(time.Duration(seconds)*time.Second)))
}

// ttl reads how long a token is to be good, in seconds.
func ttl(values []string) (int, bool) {
	if len(values) != 1 || values[0] == "" || strings.Trim(values[0], "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(values[0])
	return n, err == nil && n >= 1 && n <= maxTTL
}

func (m *Metadata) get(w http.ResponseWriter, r *http.Request) {
	role := m.cfg.Request.Role
	switch path := r.URL.Path; {
	case path == credentialsPath || path == credentialsPath+"/":
		write(w, http.StatusOK, "text/plain", []byte(role))
	case path == credentialsPath+"/"+role:
		m.giveCredentials(w, r)
	case path == "/latest/meta-data/instance-id":
		write(w, http.StatusOK, "text/plain", []byte(instanceID))
	case path == "/latest/meta-data/iam/info":
		writeJSON(w, http.StatusOK, info{"Success", m.cfg.Now().UTC().Format(second), "arn:aws:iam::000000000000:instance-profile/sega", instanceID})
	case m.cfg.Region != "" && path == "/latest/meta-data/placement/region":
		write(w, http.StatusOK, "text/plain", []byte(m.cfg.Region))
	case m.cfg.Region != "" && path == "/latest/meta-data/placement/availability-zone": // of which botocore takes the region
		write(w, http.StatusOK, "text/plain", []byte(m.cfg.Region+"a"))
	case m.cfg.Region != "" && path == "/latest/dynamic/instance-identity/document":
		writeJSON(w, http.StatusOK, document{m.cfg.Region, m.cfg.Region + "a", instanceID})
	default:
		writeProblem(w, api.Errorf(api.KindNotFound, "there is no such metadata"))
	}
}

// instanceID is what stands where tools insist on one: this is no instance.
const instanceID = "i-00000000000000000"

type info struct {
	Code, LastUpdated  string
	InstanceProfileArn string
	InstanceProfileId  string
}

type document struct {
	Region           string `json:"region"`
	AvailabilityZone string `json:"availabilityZone"`
	InstanceID       string `json:"instanceId"`
}

// instanceCredentials is what the role's path answers with.
type instanceCredentials struct {
	Code, LastUpdated, Type string
	AccessKeyID             string `json:"AccessKeyId"`
	SecretAccessKey         string
	Token, Expiration       string
}

func (m *Metadata) giveCredentials(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.Wait)
	defer cancel()
	c, err := m.cfg.Source.Credentials(ctx, m.cfg.Request)
	if err == nil && !complete(c) {
		err = errIncomplete
	}
	if err == nil && !m.tokens.good(r.Header.Values(headerToken)) {
		err = api.Errorf(api.KindRevoked, "the login has ended")
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, instanceCredentials{"Success", m.cfg.Now().UTC().Format(second), "AWS-HMAC", c.AccessKeyID,
		string(c.SecretAccessKey.Reveal()), string(c.SessionToken.Reveal()), Expiration(c.Expiration)})
}
