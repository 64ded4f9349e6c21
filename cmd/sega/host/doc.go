// Package host is what runs on a host whose sshd is stock OpenSSH: enrolment, the daemon that keeps what
// logins are judged by, the answers to sshd's questions, and the search for logins that no recording covers.
//
// It owns the files in its folder, one file of sshd's configuration and the certificate beside the host's
// key, and the accounts that it has made. It decides nothing of its own: the broker's bundle says who may
// log in, and a host without the broker keeps to the last one. It serves the flows "A host enrols" and
// "A host is asked" of docs/architecture.md.
package host
