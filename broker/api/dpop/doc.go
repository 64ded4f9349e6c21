// Package dpop owns the binding of sega's sessions to a key: proofs of possession (RFC 9449) with
// ES256, the server's nonces and the cache that refuses a proof shown twice. It is a leaf that both
// ends of broker/api import; it knows neither HTTP nor sessions.
//
// Two habits differ from the RFC's latitude. Freshness comes from the server's nonce alone: the
// laptop's clock is carried in iat and never judged. A header may hold typ, alg and jwk and
// nothing else, so that no other key can be smuggled in.
//
// It serves the flow "login" and the authentication step of every other one in docs/architecture.md.
package dpop
