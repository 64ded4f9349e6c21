package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRecordings(t *testing.T) {
	for value, want := range map[string]Recordings{
		"recordings":      {Dir: "/etc/sega/recordings"},
		"/srv/recordings": {Dir: "/srv/recordings"},
		"s3://sega":       {S3: &S3{Bucket: "sega"}},
		"s3://sega/a/b/":  {S3: &S3{Bucket: "sega", Prefix: "a/b"}},
		"s3://sega?region=eu-west-1&encryption=aws:kms&kms_key=alias/x": {S3: &S3{Bucket: "sega", Region: "eu-west-1", Encryption: "aws:kms", KMSKey: "alias/x"}},
		"s3://sega?endpoint=https://s3.corp.example:9000":               {S3: &S3{Bucket: "sega", Endpoint: "https://s3.corp.example:9000"}},
		"s3://sega?endpoint=http://127.0.0.1:9000":                      {S3: &S3{Bucket: "sega", Endpoint: "http://127.0.0.1:9000"}},
		"s3://sega?endpoint=http://[::1]:9000":                          {S3: &S3{Bucket: "sega", Endpoint: "http://[::1]:9000"}},
	} {
		got, err := ParseRecordings("/etc/sega/broker.yaml", value)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", value, err, diff)
		}
	}
}

func TestParseRecordingsRefuses(t *testing.T) {
	const secret = "CANARY-5af1"
	for value, want := range map[string]string{
		"":                                      "no folder",
		"gs://sega":                             "is not like s3://",
		"s3://":                                 "is not like s3://",
		"s3:///prefix":                          "is not like s3://",
		"s3://sega:9000/x":                      "is not like s3://",
		"s3://sega#x":                           "is not like s3://",
		"s3://AKIA:" + secret + "@sega":         "recordings_credentials",
		"s3://sega?secret=" + secret:            "parameters of the address are",
		"s3://sega?region=a&region=b":           "each once",
		"s3://sega?region=":                     "with a value",
		"s3://sega?a=%zz":                       "cannot be read",
		"s3://sega?encryption=rot13":            "encryption is",
		"s3://sega?kms_key=x":                   "belongs to",
		"s3://sega?encryption=AES256&kms_key=x": "belongs to",
		"s3://sega?endpoint=http://s3.corp":     "must begin with https",
		"s3://sega?endpoint=http://localhost":   "must begin with https",
		"s3://sega?endpoint=ftp://127.0.0.1":    "must begin with https",
		"s3://sega?endpoint=https://a:" + secret + "@x": "endpoint is like",
		"s3://sega?endpoint=nothing":                    "endpoint is like",
	} {
		_, err := ParseRecordings("/etc/sega/broker.yaml", value)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// FuzzParseRecordings: what is taken is a folder or a bucket, never both, and nothing without TLS.
func FuzzParseRecordings(f *testing.F) {
	f.Add("s3://sega/a?region=x&endpoint=https://h")
	f.Add("recordings")
	f.Add("s3://a@b/../c?endpoint=http://127.0.0.1")
	f.Fuzz(func(t *testing.T, value string) {
		r, err := ParseRecordings("/etc/sega/broker.yaml", value)
		if err != nil {
			return
		}
		if (r.Dir == "") == (r.S3 == nil) || r.S3 != nil && r.S3.Bucket == "" {
			t.Errorf("%q: %+v", value, r)
		}
		if r.S3 != nil && strings.HasPrefix(r.S3.Endpoint, "http://") && !strings.Contains(r.S3.Endpoint, "127.") && !strings.Contains(r.S3.Endpoint, "::") {
			t.Errorf("%q: %s", value, r.S3.Endpoint)
		}
	})
}
