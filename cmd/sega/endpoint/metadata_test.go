package endpoint

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// newMetadata runs one whose clock is *now.
func newMetadata(t testing.TB, now *time.Time) (m *Metadata, address string, source *fakeSource) {
	t.Helper()
	source = &fakeSource{}
	m, err := NewMetadata(MetadataConfig{Source: source, Request: api.CredentialsRequest{Role: "dev"}, Region: "eu-west-1", Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return m, serve(t, m), source
}

func putToken(t testing.TB, address, ttl string) string {
	t.Helper()
	a := send(t, address, "PUT /latest/api/token HTTP/1.1\nHost: HOST\nContent-Length: 0\nX-aws-ec2-metadata-token-ttl-seconds: "+ttl+"\n\n")
	if a.status != 200 || a.header.Get(headerTTL) != ttl {
		t.Fatalf("%d %v", a.status, a.header)
	}
	return a.body
}

func getMetadata(t testing.TB, address, path, token string) answer {
	t.Helper()
	return send(t, address, "GET "+path+" HTTP/1.1\nHost: HOST\nX-aws-ec2-metadata-token: "+token+"\n\n")
}

func TestMetadata(t *testing.T) {
	now := noon
	_, address, _ := newMetadata(t, &now)
	token := putToken(t, address, "300")
	for path, want := range map[string]string{
		"/latest/meta-data/iam/security-credentials/":   "dev",
		"/latest/meta-data/iam/security-credentials":    "dev",
		"/latest/meta-data/placement/region":            "eu-west-1",
		"/latest/meta-data/placement/availability-zone": "eu-west-1a",
		"/latest/meta-data/instance-id":                 "i-00000000000000000",
	} {
		if a := getMetadata(t, address, path, token); a.status != 200 || a.body != want {
			t.Errorf("%s: %d %q", path, a.status, a.body)
		}
	}
	var got map[string]any
	a := getMetadata(t, address, "/latest/meta-data/iam/security-credentials/dev", token)
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	want := map[string]any{"Code": "Success", "LastUpdated": "2030-01-02T11:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAdev", "SecretAccessKey": "canary-secret",
		"Token": "canary-token", "Expiration": "2030-01-02T11:00:00Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var doc map[string]string
	if err := json.Unmarshal([]byte(getMetadata(t, address, "/latest/dynamic/instance-identity/document", token).body), &doc); err != nil || doc["region"] != "eu-west-1" {
		t.Errorf("%v, %v", doc, err)
	}
	refused(t, getMetadata(t, address, "/latest/meta-data/iam/security-credentials/other", token), 404)
	refused(t, getMetadata(t, address, "/latest/user-data", token), 404)
}

func TestMetadataHostile(t *testing.T) {
	now := noon
	m, address, source := newMetadata(t, &now)
	token := putToken(t, address, "21600")
	spoiled := "A" + token[1:]
	if token[0] == 'A' {
		spoiled = "B" + token[1:]
	}
	const role = "GET /latest/meta-data/iam/security-credentials/dev HTTP/1.1\nHost: HOST\n"
	const put = "PUT /latest/api/token HTTP/1.1\nHost: HOST\nContent-Length: 0\n"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"version 1":         {role, 401},
		"empty token":       {role + "X-aws-ec2-metadata-token:\n", 401},
		"another token":     {role + "X-aws-ec2-metadata-token: " + spoiled + "\n", 401},
		"a longer end":      {role + "X-aws-ec2-metadata-token: " + token + "A\n", 401},
		"two tokens":        {role + strings.Repeat("X-aws-ec2-metadata-token: "+token+"\n", 2), 401},
		"a proxy's":         {role + "X-aws-ec2-metadata-token: " + token + "\nX-Forwarded-For: 1.2.3.4\n", 403},
		"a page's":          {role + "X-aws-ec2-metadata-token: " + token + "\nOrigin: http://x\n", 403},
		"another host":      {"GET / HTTP/1.1\nHost: evil.example\nX-aws-ec2-metadata-token: " + token + "\n", 403},
		"POST":              {"POST / HTTP/1.1\nHost: HOST\nContent-Length: 0\nX-aws-ec2-metadata-token: " + token + "\n", 405},
		"put by a proxy":    {put + "X-aws-ec2-metadata-token-ttl-seconds: 300\nX-Forwarded-For: 1.2.3.4\n", 403},
		"put by a page":     {put + "X-aws-ec2-metadata-token-ttl-seconds: 300\nOrigin: null\n", 403},
		"put with no end":   {put, 400},
		"put with 0":        {put + "X-aws-ec2-metadata-token-ttl-seconds: 0\n", 400},
		"put with too much": {put + "X-aws-ec2-metadata-token-ttl-seconds: 21601\n", 400},
		"put with a sign":   {put + "X-aws-ec2-metadata-token-ttl-seconds: +5\n", 400},
		"put with junk":     {put + "X-aws-ec2-metadata-token-ttl-seconds: 5s\n", 400},
		"put with two ends": {put + strings.Repeat("X-aws-ec2-metadata-token-ttl-seconds: 300\n", 2), 400},
		"put elsewhere":     {"PUT /latest/api HTTP/1.1\nHost: HOST\nContent-Length: 0\nX-aws-ec2-metadata-token-ttl-seconds: 300\n", 404},
		"put with a body":   {"PUT /latest/api/token HTTP/1.1\nHost: HOST\nContent-Length: 1\nX-aws-ec2-metadata-token-ttl-seconds: 300\n", 400},
	} {
		t.Run(name, func(t *testing.T) { refused(t, send(t, address, c.request+"\n"), c.status) })
	}
	if asked := source.roles(); len(asked) != 0 {
		t.Errorf("the source was asked for %q", asked)
	}
	const path = "/latest/meta-data/iam/security-credentials/dev"
	now = noon.Add(6*time.Hour - time.Second)
	if a := getMetadata(t, address, path, token); a.status != 200 {
		t.Errorf("before its end: %d", a.status)
	}
	now = noon.Add(6 * time.Hour)
	refused(t, getMetadata(t, address, path, token), 401)

	// It ends while an answer is under way: revocation wins.
	token = putToken(t, address, "300")
	source.do(func(context.Context, api.CredentialsRequest) (api.Credentials, error) {
		m.Forget()
		return sample("dev"), nil
	})
	refused(t, getMetadata(t, address, path, token), 403)
	refused(t, getMetadata(t, address, path, token), 401)
	source.do(func(context.Context, api.CredentialsRequest) (api.Credentials, error) {
		return sample("dev"), api.Errorf(api.KindRevoked, "access was revoked")
	})
	refused(t, getMetadata(t, address, path, putToken(t, address, "300")), 403)
}

func TestNewMetadata(t *testing.T) {
	for name, c := range map[string]MetadataConfig{
		"no source": {Request: api.CredentialsRequest{Role: "dev"}}, "no role": {Source: &fakeSource{}}, "a path for a role": {Source: &fakeSource{}, Request: api.CredentialsRequest{Role: "a/b"}},
	} {
		if m, err := NewMetadata(c); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}
