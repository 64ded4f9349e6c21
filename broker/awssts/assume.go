package awssts

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"sega/keychain/secret"
)

// Result is a session that AWS made.
type Result struct {
	AccessKeyID                   string
	SecretAccessKey, SessionToken secret.Secret
	Expiration                    time.Time
	RoleARN                       string
	AssumedRoleARN, AssumedRoleID string // the ID is the later aws:userid, AROA…:NAME
	SourceIdentity, SessionName   string
	Duration                      time.Duration // as asked for in the call that succeeded
	Notices                       []string      // one line each, for the person
	Unanswered                    int           // earlier attempts whose session AWS may have made too, unseen by anybody
	Chained                       bool          // made by role chaining, or perhaps so: AWS takes no SessionDuration with it
}

// Plan returns the exact parameters that Assume would send for r, or an error of KindInvalid. It
// calls nobody.
func (m *Minter) Plan(r Request) (Call, error) {
	if err := m.checkMode(r); err != nil {
		return Call{}, err
	}
	chained, _ := m.Chained()
	return plan(r, chained)
}

// Assume makes a session for r with the broker's own identity, or by a token of its own. Every error is an *Error. Where AWS
// says that the role allows less than RoleMax told, it asks once more for an hour, and says so in the
// notices.
func (m *Minter) Assume(ctx context.Context, r Request) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if r.WebIdentity == nil && !m.keyless {
		if err := m.learn(ctx); err != nil && !err.Retryable {
			return Result{}, err
		}
	}
	c, err := m.Plan(r)
	if err != nil {
		return Result{}, err
	}
	chained, _ := m.Chained()
	res, err := m.ask(ctx, c, nil)
	res.Chained = chained && c.Web == nil
	return res, err
}

// ask sends a call under the broker's credentials, or under others.
func (m *Minter) ask(ctx context.Context, c Call, as aws.CredentialsProvider) (Result, error) {
	w := &wire{next: m.http}
	res, e := m.send(ctx, c, w, as)
	if e != nil && tooLong(e, c) {
		c.Notices = append(c.Notices, "session shortened from "+short(c.Duration)+" to "+short(ChainedDuration)+": "+whyTooLong(e))
		c.Duration = ChainedDuration
		res, e = m.send(ctx, c, w, as)
	}
	if e != nil {
		return Result{}, e
	}
	res.Notices, res.Unanswered = c.Notices, w.unanswered
	return res, nil
}

// tooLong reports whether AWS refused for the length alone, and an hour has not been tried.
func tooLong(e *Error, c Call) bool {
	if e.Code != "ValidationError" || c.Duration <= ChainedDuration {
		return false
	}
	return strings.Contains(e.Detail, "MaxSessionDuration") || aboutChaining(e)
}

func aboutChaining(e *Error) bool {
	d := strings.ToLower(e.Detail)
	return strings.Contains(d, "role chaining") || strings.Contains(d, "1 hour session limit")
}

func whyTooLong(e *Error) string {
	if aboutChaining(e) {
		return "AWS caps role chaining at one hour, and says that the broker is an assumed role"
	}
	return "AWS says that the role's maximum session duration is less"
}

func (m *Minter) send(ctx context.Context, c Call, w *wire, as aws.CredentialsProvider) (Result, *Error) {
	out, e := m.call(ctx, c, w, as)
	if e != nil {
		return Result{}, e
	}
	res, bad := c.result(out, m.now())
	if bad != "" {
		return Result{}, &Error{Kind: KindAnswer, Detail: bad, Ambiguous: true, Hint: checkAnswer}
	}
	return res, nil
}

func (c Call) input() *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{
		RoleArn: aws.String(c.RoleARN), RoleSessionName: aws.String(c.SessionName),
		SourceIdentity: aws.String(c.SourceIdentity), DurationSeconds: aws.Int32(int32(c.Duration / time.Second)),
	}
	if c.ExternalID != "" {
		in.ExternalId = aws.String(c.ExternalID)
	}
	if c.Policy != "" {
		in.Policy = aws.String(c.Policy)
	}
	in.PolicyArns = c.policyARNs()
	for _, t := range c.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	return in
}

func (c Call) policyARNs() (out []types.PolicyDescriptorType) {
	for _, arn := range c.PolicyARNs {
		out = append(out, types.PolicyDescriptorType{Arn: aws.String(arn)})
	}
	return out
}

// slack is how far AWS's clock and the broker's may differ.
const slack = 5 * time.Minute

// result checks the answer against the call; what does not name the person or lives longer than
// asked is refused, because it could not be attributed or revoked in time. It returns the reason.
func (c Call) result(out *sts.AssumeRoleOutput, now time.Time) (Result, string) {
	cr, u := out.Credentials, out.AssumedRoleUser
	switch {
	case cr == nil || u == nil || aws.ToString(cr.AccessKeyId) == "" || aws.ToString(cr.SecretAccessKey) == "" ||
		aws.ToString(cr.SessionToken) == "" || cr.Expiration == nil:
		return Result{}, "the answer lacks a part of the credentials"
	case aws.ToString(out.SourceIdentity) != c.SourceIdentity:
		return Result{}, "the session does not carry the person's source identity"
	case !strings.HasSuffix(aws.ToString(u.Arn), "/"+c.SessionName) || !strings.HasSuffix(aws.ToString(u.AssumedRoleId), ":"+c.SessionName):
		return Result{}, "the session carries another name than the person's"
	case !cr.Expiration.After(now.Add(-slack)) || cr.Expiration.After(now.Add(c.Duration+slack)):
		return Result{}, "the session ends at another time than asked for"
	}
	return Result{
		AccessKeyID:     aws.ToString(cr.AccessKeyId),
		SecretAccessKey: secret.FromString(aws.ToString(cr.SecretAccessKey)),
		SessionToken:    secret.FromString(aws.ToString(cr.SessionToken)),
		Expiration:      cr.Expiration.UTC(), Duration: c.Duration, RoleARN: c.RoleARN,
		AssumedRoleARN: aws.ToString(u.Arn), AssumedRoleID: aws.ToString(u.AssumedRoleId),
		SourceIdentity: c.SourceIdentity, SessionName: c.SessionName,
	}, ""
}
