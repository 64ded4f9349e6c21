// Package sshca owns what an SSH certificate of sega may say: the four profiles, the grammar of
// principals, key IDs and serials, the lint before a signature, and the checks that a bastion makes
// on a certificate that somebody shows.
//
// Four authorities sign, and a certificate of one is useless before a verifier of another:
//
//	access  a person to the bastion; its one principal is the login's ses_ ID, no account of any host
//	hop     the bastion to one account of one host; its one principal is LOGIN@HOST-ID
//	front   bastions, and the masks that they wear for hosts in `ssh -J`; laptops trust only it
//	host    real hosts; only bastions trust it
//
// It does no I/O and reads no clock: values and a time go in, values and an error come out. It owns
// neither CA keys (sshca/softkey), nor who may get a certificate (broker/policy), nor revocation
// (broker, broker/bastion).
//
// It serves the flows "certificate", "hop" and "front" of docs/architecture.md. The format is that
// of OpenSSH's PROTOCOL.certkeys.
package sshca
