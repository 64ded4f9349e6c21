package awssts

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Canaries: what must never be seen in an error.
const (
	canarySecret = "canarySECRETkey0123456789012345678901234"
	canaryToken  = "canaryTOKEN0123456789"
)

// answerer answers the n-th call (from 0) of a test.
type answerer func(n int, form url.Values) (status int, body string)

// fakeAWS answers as told and remembers the forms. The double of cmd/segad/dev/sts checks the
// protocol; this one can say what STS never says.
type fakeAWS struct {
	*httptest.Server
	mu     sync.Mutex
	forms  []url.Values
	signed int // calls that were
}

func newFake(t *testing.T, answer answerer) *fakeAWS {
	t.Helper()
	f := &fakeAWS{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		f.mu.Lock()
		n := len(f.forms)
		f.forms = append(f.forms, form)
		if r.Header.Get("Authorization") != "" {
			f.signed++
		}
		f.mu.Unlock()
		status, text := answer(n, form)
		switch status {
		case 0:
			panic(http.ErrAbortHandler)
		case -1:
			<-r.Context().Done()
			return
		case 302:
			w.Header().Set("Location", text)
		}
		w.Header().Set("X-Amzn-Requestid", "r-1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAWS) calls() []url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]url.Values(nil), f.forms...)
}

func no() *bool { return aws.Bool(false) }

func newMinter(t *testing.T, endpoint string, change func(*Config)) *Minter {
	t.Helper()
	cfg := Config{Region: "eu-central-1", Endpoint: endpoint, Credentials: canaries(), Chained: no(), Timeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	m, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func canaries() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIABROKER0000000000", SecretAccessKey: canarySecret, SessionToken: canaryToken}, nil
	})
}

const ns = `xmlns="https://sts.amazonaws.com/doc/2011-06-15/"`

func errorXML(code, message string) string {
	return `<ErrorResponse ` + ns + `><Error><Type>Sender</Type><Code>` + code + `</Code><Message>` + message + `</Message></Error><RequestId>r-1</RequestId></ErrorResponse>`
}

func identityXML(arn string) string {
	return `<GetCallerIdentityResponse ` + ns + `><GetCallerIdentityResult><Arn>` + arn + `</Arn><UserId>AIDA</UserId><Account>111111111111</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`
}

// granted is a right answer; change may spoil it.
type granted struct{ source, name, id, secret, token, expiration string }

func grant(form url.Values) granted {
	secs, _ := strconv.Atoi(form.Get("DurationSeconds"))
	return granted{source: form.Get("SourceIdentity"), name: form.Get("RoleSessionName"), id: "ASIAROLE000000000000", secret: "role-secret", token: "role-token",
		expiration: time.Now().Add(time.Duration(secs) * time.Second).UTC().Format(time.RFC3339)}
}

func (g granted) xml() string {
	return fmt.Sprintf(`<AssumeRoleResponse %s><AssumeRoleResult><SourceIdentity>%s</SourceIdentity><AssumedRoleUser><AssumedRoleId>AROAX:%[3]s</AssumedRoleId><Arn>arn:aws:sts::222222222222:assumed-role/admin/%[3]s</Arn></AssumedRoleUser><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></AssumeRoleResponse>`,
		ns, g.source, g.name, g.id, g.secret, g.token, g.expiration)
}

func grants(_ int, form url.Values) (int, string) { return 200, grant(form).xml() }
