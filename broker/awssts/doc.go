// Package awssts mints temporary AWS role credentials for a person whom the broker has already
// authenticated and authorised.
//
// It owns the AssumeRole call, and AssumeRoleWithWebIdentity with the token that it is asked by: who the
// session says it is for (R2), how long it lasts, which tags
// it carries, and what a refusal of AWS means in words that somebody can act on. It decides
// nothing about access, writes no audit event and keeps no credential: the broker records the
// intent before Assume and the outcome after it, and Error.Ambiguous tells it when the outcome
// cannot be known.
//
// It serves the flow "credentials" (keychain → client ⇄ broker → policy → intent → AssumeRole →
// outcome). The keys that sign tokens are the broker's (TokenSigner). The calls go to the endpoint of the configuration or to AWS; no environment variable
// and no profile can redirect them.
package awssts
