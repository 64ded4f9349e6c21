package awssts

import (
	"context"
	"crypto/rand"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"sega/keychain/secret"
)

// TokenLife is how long a token of ours may be used, from when it is signed.
const TokenLife = time.Minute

// tokenBackdate is how far back a token is dated, so that a broker whose clock is a little ahead of
// AWS's is not refused.
const tokenBackdate = 30 * time.Second

// WebIdentity asks for a session by a token of the broker as an OIDC issuer, in place of its own AWS
// identity: AssumeRoleWithWebIdentity. It is not role chaining, and needs no AWS credentials.
type WebIdentity struct {
	Issuer   string // iss: the URL of the IAM OIDC provider
	Audience string // aud: the role's own
	Subject  string // sub: the person, as trust policies name them
}

// TokenSigner signs the tokens. What Sign returns is shown to STS and to nobody else.
type TokenSigner interface {
	Sign(claims any) (secret.Secret, error)
}

// claims is a token's content (IAM User Guide, "Pass session tags using AssumeRoleWithWebIdentity",
// "Monitor and control actions taken with assumed roles").
type claims struct {
	Issuer         string    `json:"iss"`
	Audience       string    `json:"aud"`
	Subject        string    `json:"sub"`
	IssuedAt       int64     `json:"iat"`
	NotBefore      int64     `json:"nbf"`
	Expires        int64     `json:"exp"`
	ID             string    `json:"jti"`
	SourceIdentity string    `json:"https://aws.amazon.com/source_identity"`
	Tags           tagClaims `json:"https://aws.amazon.com/tags"`
}

type tagClaims struct {
	Principal  map[string][]string `json:"principal_tags"`
	Transitive []string            `json:"transitive_tag_keys,omitempty"`
}

// claims returns the content of a new token for the call.
func (c Call) claims(now time.Time) claims {
	at := now.Add(-tokenBackdate).Unix()
	out := claims{Issuer: c.Web.Issuer, Audience: c.Web.Audience, Subject: c.Web.Subject, IssuedAt: at, NotBefore: at,
		Expires: now.Add(TokenLife).Unix(), ID: rand.Text(), SourceIdentity: c.SourceIdentity, Tags: tagClaims{Principal: map[string][]string{}}}
	for _, t := range c.Tags {
		out.Tags.Principal[t.Key] = []string{t.Value}
	}
	return out
}

// call makes the one call by which a session begins: by a token where the role says so, else under
// the broker's own AWS identity, or under another. Both answers have the same parts.
func (m *Minter) call(ctx context.Context, c Call, w *wire, as aws.CredentialsProvider) (*sts.AssumeRoleOutput, *Error) {
	if c.Web != nil {
		return m.withWebIdentity(ctx, c, w)
	}
	out, err := m.client.AssumeRole(ctx, c.input(), func(o *sts.Options) {
		o.HTTPClient = w
		if as != nil {
			o.Credentials = as
		}
	})
	if err != nil {
		return nil, classify(err, w, c, m.who().arn)
	}
	return out, nil
}

// withWebIdentity signs a token and spends it. Each call has a token of its own; attempts of one call,
// which the SDK makes within seconds, share theirs.
func (m *Minter) withWebIdentity(ctx context.Context, c Call, w *wire) (*sts.AssumeRoleOutput, *Error) {
	token, err := m.tokens.Sign(c.claims(m.now()))
	if err != nil { // its text may be that of a key service, so it is not shown
		return nil, &Error{Kind: KindToken, Detail: "the broker could not sign its token", Hint: "look at the keys of the section issuer in the broker's configuration"}
	}
	defer token.Wipe()
	out, err := m.client.AssumeRoleWithWebIdentity(ctx, c.webInput(token), func(o *sts.Options) { o.HTTPClient = w })
	if err != nil {
		return nil, classify(err, w, c, "")
	}
	if bad := c.Web.mismatch(out); bad != "" {
		return nil, &Error{Kind: KindAnswer, Detail: bad, Ambiguous: true, Hint: checkAnswer}
	}
	return &sts.AssumeRoleOutput{AssumedRoleUser: out.AssumedRoleUser, Credentials: out.Credentials, SourceIdentity: out.SourceIdentity}, nil
}

func (c Call) webInput(token secret.Secret) *sts.AssumeRoleWithWebIdentityInput {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(c.RoleARN), RoleSessionName: aws.String(c.SessionName),
		WebIdentityToken: aws.String(string(token.Reveal())), DurationSeconds: aws.Int32(int32(c.Duration / time.Second)), PolicyArns: c.policyARNs()}
	if c.Policy != "" {
		in.Policy = aws.String(c.Policy)
	}
	return in
}

// mismatch says what of an answer is not of our token. Provider is not looked at: AWS documents the
// issuer there, and sends the ARN of the IAM OIDC provider.
func (id WebIdentity) mismatch(out *sts.AssumeRoleWithWebIdentityOutput) string {
	if s := aws.ToString(out.SubjectFromWebIdentityToken); s != "" && s != id.Subject {
		return "the session is another subject's"
	}
	if a := aws.ToString(out.Audience); a != "" && a != id.Audience {
		return "the session is for another audience"
	}
	return ""
}

// checkMode refuses a request that this Minter has no means for. It calls nobody.
func (m *Minter) checkMode(r Request) error {
	switch {
	case r.WebIdentity != nil && m.tokens == nil:
		return invalid("the broker is no OIDC issuer, and the role is in the mode web-identity", "add the section issuer to the broker's configuration")
	case r.WebIdentity == nil && m.keyless:
		return invalid("the broker has no AWS identity of its own, and the role is in the mode assume-role", "set the role's mode to web-identity, or restart the broker after its roles were changed")
	}
	return nil
}

// claimRule takes printable ASCII without blanks.
var claimRule = regexp.MustCompile(`\A[\x21-\x7e]+\z`)

// validateWeb checks what goes into the token beside what validate checks.
func (c Call) validateWeb() error {
	switch id := c.Web; {
	case id == nil:
		return nil
	case c.ExternalID != "":
		return invalid("AssumeRoleWithWebIdentity has no external ID", "take external_id off the role, and let its trust policy ask for the audience")
	case !strings.HasPrefix(id.Issuer, "https://"):
		return invalid("the issuer is no https address", "")
	case len(id.Audience) > 255 || !claimRule.MatchString(id.Audience):
		return invalid("the audience of this role is not 1 to 255 characters without blanks", "")
	case len(id.Subject) < 6 || len(id.Subject) > 255 || !claimRule.MatchString(id.Subject):
		return invalid("the subject is not 6 to 255 characters without blanks", "")
	}
	return nil
}
