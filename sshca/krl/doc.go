// Package krl writes and reads OpenSSH's key revocation lists, as sshd's RevokedKeys and ssh's
// RevokedHostKeys take them (PROTOCOL.krl rev 1.7, checked against OpenSSH 9.2's krl.c), and signs them
// detached, as `ssh-keygen -Y verify` takes it (PROTOCOL.sshsig).
//
// It writes what OpenSSH from 7.9 on reads, and no more of the format than that needs: a section of
// certificates for each CA, with one list of serials, ranges and key IDs; a section of whole keys; a section
// of SHA-256 hashes. No bitmap, no extension (9.2 then refuses every key), no signature inside (9.4 and later refuse it).
// One list has one form, byte for byte; Parse takes that form alone.
//
// It owns neither what is revoked, nor the number of a version, nor who may fetch it (broker). It serves
// the flow "Revoke" of docs/architecture.md.
package krl
