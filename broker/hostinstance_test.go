package broker

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"sega/broker/api"
	"sega/keychain/secret"
)

// awsSigner stands in for AWS.
type awsSigner struct {
	t    *testing.T
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

func newAWSSigner(t *testing.T, now time.Time) awsSigner {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "AWS double"}, NotBefore: time.Unix(1_700_000_000, 0), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return awsSigner{t, key, cert}
}

func (a awsSigner) document(account, region, instance string, pending time.Time) []byte {
	a.t.Helper()
	signed, err := pkcs7.NewSignedData([]byte(fmt.Sprintf(`{"accountId":%q,"region":%q,"instanceId":%q,"privateIp":"10.1.2.3","pendingTime":%q}`, account, region, instance, pending.Format(time.RFC3339))))
	if err == nil {
		signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
		err = signed.AddSigner(a.cert, a.key, pkcs7.SignerInfoConfig{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := signed.Finish()
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// TestInstancesEnrol by the documents that the rules let in, each instance once.
func TestInstancesEnrol(t *testing.T) {
	const account, region, id = "111122223333", "eu-central-1", "i-0123456789abcdef0"
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	aws, forger := newAWSSigner(t, now), newAWSSigner(t, now)
	w := newHostWorld(t, func(c *Config) {
		c.Instances = Instances{Certificates: []*x509.Certificate{aws.cert}, Rules: []InstanceRule{
			{Account: account, Region: region, Prefix: "web-", Port: 22, Logins: []string{"deploy"}, Labels: map[string]string{"env": "prod"}},
			{Account: "444455556666", Region: region, IDs: []string{"i-00000001"}, Port: 22, Logins: []string{"deploy"}}}}
	})
	good := aws.document(account, region, id, now.Add(-time.Minute))
	enroll := func(name string, document []byte, token secret.Secret) *httptest.ResponseRecorder {
		return w.stranger().do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: name, Document: document, Token: token})
	}
	for name, tt := range map[string]struct {
		host     string
		document []byte
		says     string
	}{
		"forged":                {"web-" + id, forger.document(account, region, id, now), "is refused"},
		"no document":           {"web-" + id, []byte("x"), "is refused"},
		"another name":          {"db-1", good, "no rule"},
		"a bastion's name":      {"bastion-1", good, "no rule"},
		"the name of another":   {"web-i-0123456789abcdef1", good, "no rule"},
		"a wildcard":            {"*", good, "no rule"},
		"another account":       {"web-" + id, aws.document("999999999999", region, id, now), "no rule"},
		"another region":        {"web-" + id, aws.document(account, "us-east-1", id, now), "no rule"},
		"too old":               {"web-" + id, aws.document(account, region, id, now.Add(-2*time.Hour)), "so long after"},
		"of the future":         {"web-" + id, aws.document(account, region, id, now.Add(time.Hour)), "no rule"},
		"an instance not named": {"i-00000002", aws.document("444455556666", region, "i-00000002", now), "no rule"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, enroll(tt.host, tt.document, secret.Secret{}), api.KindDenied, tt.says) })
	}
	refused(t, enroll("web-"+id, good, api.NewToken(api.PrefixJoin)), api.KindInvalid, "or by")
	v := read[api.HostEnrolled](t, enroll("web-"+id, good, secret.Secret{}))
	if v.HostID != "web-"+id || v.Labels["env"] != "prod" {
		t.Errorf("enrolled %+v", v)
	}
	if h, ok := w.s.host("web-" + id); !ok || h.Address != "10.1.2.3:22" {
		t.Errorf("inventory has %+v", h)
	}
	refused(t, enroll("web-"+id, good, secret.Secret{}), api.KindDenied, "enrolled before")
	refused(t, enroll("web-"+id, aws.document(account, region, id, now), secret.Secret{}), api.KindDenied, "enrolled before")
	read[api.HostEnrolled](t, enroll("i-00000001", aws.document("444455556666", region, "i-00000001", now), secret.Secret{}))
}
