// Package signer owns where the keys of the CAs live: it opens a key by its place and returns a signer for SSH.
//
//	PATH                                                a passphrase-encrypted file (sshca/softkey)
//	pkcs11:token=…;object=…[;id=…][;module-path=…]?pin-source=FILE   an HSM; only in a build with the tag pkcs11, which needs cgo
//	awskms:region=…;key-id=…[;profile=…]                AWS KMS, as the SDK finds its credentials
//	sshagentkms:COMMENT[?socket=PATH]                   a key of an ssh-agent, SSH_AUTH_SOCK where no socket is named
//
// These are the URIs of go.step.sm/crypto, whose packages do the work. Secrets stand in files that a place names.
//
// What is not a file may go away: its signer opens the key anew after an error, with a bound on how long, and refuses
// another key in its place. Every signature of such a key is verified before it is used.
//
// It owns neither what a key may sign (sshca) nor which key signs now (broker).
//
// It serves the start of the broker and `segad ca`.
package signer
