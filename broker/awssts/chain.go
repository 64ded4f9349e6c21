package awssts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// AssumeFrom makes a session for r with the credentials of the session before, which is role
// chaining: AWS caps it at an hour, whatever role and policy give. The source identity must be that
// of the session before; AWS refuses another one. Session tags are set anew: AWS hands down only
// transitive ones, which a later call cannot set again, and so none of ours is transitive.
//
// r.ExternalID is that of the role which r names. Errors are as those of Assume.
func (m *Minter) AssumeFrom(ctx context.Context, before Result, r Request) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	r.Through, r.WebIdentity = before.RoleARN, nil
	c, err := plan(r, true)
	if err != nil {
		return Result{}, err
	}
	if c.SourceIdentity != before.SourceIdentity {
		return Result{}, invalid("the session before is another person's", "")
	}
	if partition(r.RoleARN) != partition(before.RoleARN) {
		return Result{}, invalid("the roles are of different partitions of AWS, between which there is no AssumeRole", "chain roles of one partition")
	}
	res, err := m.ask(ctx, c, before.provider())
	res.Chained = true
	return res, err
}

// provider hands the credentials to the SDK, which may ask for them after the call has ended.
func (r Result) provider() aws.CredentialsProvider {
	value := aws.Credentials{AccessKeyID: r.AccessKeyID, SecretAccessKey: string(r.SecretAccessKey.Reveal()), SessionToken: string(r.SessionToken.Reveal()),
		CanExpire: true, Expires: r.Expiration}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return value, nil })
}
