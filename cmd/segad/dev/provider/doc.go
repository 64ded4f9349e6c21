// Package provider owns the OpenID provider of `segad dev up`: a fair double of a company's IdP
// with real pages (password, TOTP, device approval), authorization code with PKCE, refresh tokens
// that rotate, the device grant, userinfo and revocation. It is as strict as Okta about redirect
// URIs and stricter about parameters, so that a mistake of ours shows here first.
//
// It does not own anybody's production identity: it refuses every address but loopback, keeps
// passwords as given and its keys in a plain file. Mint makes tokens that no provider would, for
// tests that attack the verifier.
//
// It serves the flow "log in" of docs/architecture.md on a developer's machine and in tests.
package provider
