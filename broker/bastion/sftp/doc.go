// Package sftp owns what the bastion understands of SFTP version 3 (draft-ietf-secsh-filexfer-02,
// with the extensions of OpenSSH's PROTOCOL): it follows both byte streams of a channel and says
// what was done to which file, how it ended, and the digest of what went over.
//
// It owns no connection, no recording and no event: Observer takes bytes and returns values, and
// whoever carries the bytes records, reports and forwards what a Step says, in this order. What
// goes on is byte for byte what came; a request that is refused stays behind whole, and the Step
// has the answer that the host would have given.
//
// Both ends may be hostile. A packet is at most 256 KiB, as with OpenSSH; there are at most 1,024
// requests under way and 1,024 open handles, paths are kept up to 4 KiB each, and 1 MiB of what came
// out of order waits for its place. What does not fit the protocol is an Error, which ends the
// channel: an end that is not understood could do what no event says.
//
// It serves the flow "ssh" of docs/architecture.md (design §5, R11).
package sftp
