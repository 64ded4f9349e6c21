// Package bastion owns the SSH proxy between people and hosts: it verifies who signed, asks the
// broker for every connection, dials the host with a one-hop certificate, records before it
// forwards, and cuts what is revoked.
//
// It owns no CA key and no policy, and it cannot read back what it records. People, policy and
// addresses come from the broker (broker/api through Control), certificate checks from sshca, the
// format of recordings and their objects from audit/recording.
//
// People reach it by `ssh -J BASTION LOGIN@HOST`, by `ssh LOGIN%HOST@BASTION` and by
// `ssh LOGIN+HOST@BASTION`. All three end here: inside `ssh -J` the bastion itself answers the
// inner connection, wearing a mask certificate for the host (design R7).
//
// It serves the flows "ssh", "record" and "revoke" of docs/architecture.md.
package bastion
