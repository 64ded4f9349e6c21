// Package softkey owns keys in passphrase-encrypted files, those of the CAs and those of the broker as
// an OIDC issuer: it creates them and opens them as signers.
//
// A file begins with the public key as a line of authorized_keys form. Then comes PKCS#8 (RFC 5958) under PBES2 (RFC 8018): AES-256-CBC with a key from PBKDF2,
// HMAC-SHA-256, 600,000 rounds, which is what go.step.sm/crypto writes. `openssl pkey -in FILE` reads
// it. CBC notices no damage by itself, so Open compares the key that comes out with that line. Open refuses whatever is weaker, plain keys included, and whatever anybody but the owner can read.
//
// It owns neither where the passphrase comes from nor what a key may sign (sshca). Keys in PKCS#11,
// a cloud's KMS or an agent are other packages.
//
// It serves the start of the broker, `segad ca` and `segad issuer`.
package softkey
