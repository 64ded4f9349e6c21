package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Recordings says where recordings are kept: in a folder or in S3. Exactly one is set.
type Recordings struct {
	Dir string // path
	S3  *S3
}

// S3 is a place in an object storage that speaks S3 and knows conditional puts.
type S3 struct {
	Bucket, Prefix string
	Region         string // "": of the SDK's own configuration
	Endpoint       string // "": AWS
	Encryption     string // of the server's side: AES256, aws:kms or aws:kms:dsse; "": the bucket's default
	KMSKey         string // key of the latter two; "": the account's
}

// ParseRecordings reads the value of the key `recordings`: the path of a folder, relative to that of
// the configuration, or s3://BUCKET[/PREFIX][?region=…&endpoint=…&encryption=…&kms_key=…]. An address
// with credentials in it is refused (secrets are paths), and so is an endpoint that would cross a
// network without TLS (rule 5).
func ParseRecordings(file, value string) (Recordings, error) {
	if value == "" {
		return Recordings{}, errors.New("recordings: no folder and no s3:// address configured")
	}
	if !strings.Contains(value, "://") {
		return Recordings{Dir: Path(file, value)}, nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.Port() != "" || u.Fragment != "" {
		return Recordings{}, errors.New("recordings: the address is not like s3://BUCKET/PREFIX?region=eu-west-1")
	}
	if u.User != nil {
		return Recordings{}, errors.New("recordings: the address holds credentials; put them into a file and name it in recordings_credentials")
	}
	s, err := parseS3(u)
	if err != nil {
		return Recordings{}, fmt.Errorf("recordings: %w", err)
	}
	return Recordings{S3: s}, nil
}

func parseS3(u *url.URL) (*S3, error) {
	s := &S3{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters of the address cannot be read")
	}
	known := map[string]*string{"region": &s.Region, "endpoint": &s.Endpoint, "encryption": &s.Encryption, "kms_key": &s.KMSKey}
	for name, values := range q {
		to := known[name]
		if to == nil || len(values) != 1 || values[0] == "" {
			return nil, errors.New("the parameters of the address are region, endpoint, encryption and kms_key, each once and with a value")
		}
		*to = values[0]
	}
	switch {
	case s.Encryption != "" && !slices.Contains([]string{"AES256", "aws:kms", "aws:kms:dsse"}, s.Encryption):
		return nil, errors.New("encryption is AES256, aws:kms or aws:kms:dsse")
	case s.KMSKey != "" && !strings.HasPrefix(s.Encryption, "aws:kms"):
		return nil, errors.New("kms_key belongs to encryption=aws:kms or aws:kms:dsse")
	}
	return s, checkEndpoint(s.Endpoint)
}

// checkEndpoint wants TLS everywhere but on loopback.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("endpoint is like https://s3.corp.example")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !ip.IsLoopback()) {
		return errors.New("endpoint must begin with https://")
	}
	return nil
}
