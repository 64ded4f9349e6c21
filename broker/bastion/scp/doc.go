// Package scp owns what the bastion understands of the old protocol of scp (`scp -O`, the exec of
// `scp -t` and `scp -f`): it follows both byte streams of such a program and says which files went
// over, how large they were, and their digests. There is no document of that protocol; OpenSSH's
// scp.c, in source() and sink(), is what it is held against.
//
// It lets everything pass: a command is what policy has decided on, whatever its bytes are. Where
// they are not those of scp, Follower says so once and follows no further. It owns no connection and
// no event.
//
// It serves the flow "ssh" of docs/architecture.md (design §5).
package scp
