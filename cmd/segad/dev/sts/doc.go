// Package sts is a double of AWS STS for `segad dev up` and for tests. It owns what a client can
// see of AssumeRole, AssumeRoleWithWebIdentity (with the IAM OIDC providers that it takes) and
// GetCallerIdentity: the query protocol, Signature Version 4, tokens and their keys, the limits of
// every parameter, trust policies in a few flags, error codes and XML.
//
// It computes signatures itself, without the SDK, and verifies tokens itself, so that a mistake in the one is not hidden by
// the other. Its credentials open nothing but itself. It listens on loopback only, and nothing
// but the development command and tests imports it.
//
// Error codes and limits follow the STS API reference; where AWS documents no code (an unknown or
// doubled parameter), the double refuses with InvalidQueryParameter rather than ignore it.
package sts
