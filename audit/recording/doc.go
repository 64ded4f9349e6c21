// Package recording owns the format of recorded SSH sessions: writing it on the bastion, verifying
// it without any key, recovering it after a crash, and reading and playing it with an age identity.
//
// It does not own where recordings are kept (audit/recording/bucket), nor the events of the audit
// log that announce a recording (Announcement), witness it while it grows (Head) and close it
// (End): the bastion reports those and the broker logs them.
//
// It serves the flow "open a host" of docs/architecture.md (design I2, R11). What holds:
//
//   - A frame is encrypted and handed to the operating system before Write returns; the bastion
//     forwards it afterwards. After a failed write every later call fails, so the session ends.
//   - The bastion cannot read back what it wrote: keys step forward with each segment, the old
//     ones are overwritten, and the first ones are known to the recipients alone. (Working copies
//     inside the age library are left to the garbage collector; everything held here is wiped.)
//   - Who owns the bucket can neither read nor forge: segments are chained and signed by a key that
//     lives in the session's memory and whose public half is in the audit log before the first frame.
//   - Who seizes the bastion during a session gets its signing key, and could rewrite what no head
//     in the log has witnessed yet; heads go into the log every few seconds for that reason.
//
// # Format, version 1
//
// Integers are big-endian and unsigned; ‖ joins bytes; H is the function that the header's hash
// names, "blake2b-256" or "sha256". A recording is a header followed by records:
//
//	header  = "sega-recording/1\n" ‖ length uint32 ‖ JSON (length bytes, at most 1 MiB)
//	record  = length uint32 ‖ type byte ‖ body (length-1 bytes); 1 ≤ length ≤ 1 MiB
//
// The JSON has the fields of Header. output_key and input_key are each, in base64, a binary age
// file (age-encryption.org/v1) that holds 32 random bytes: the key of segment 1 for the records
// of type 1, 4 and 5, and for those of type 2. public_key is an Ed25519 key made for this recording.
//
//	type 1  frame, body = ciphertext under the output key of its segment
//	type 2  frame of what the person typed, body = ciphertext under the input key of its segment
//	type 3  seal, closes a segment, body as below
//	type 4  end, the last record before the last seal, body = ciphertext under the output key
//	type 5  bytes that were left out, body = ciphertext under the output key of its segment
//
// Segments are numbered from 1. A segment is one or more records of any other type and the seal
// after them. In each, the records before the seal are counted from 0. A ciphertext is
// AES-256-GCM (16-byte tag behind) with
//
//	nonce = segment uint64 ‖ counter uint32
//	AAD   = type byte ‖ segment uint64 ‖ counter uint32 ‖ session_id
//
// and the plaintext is
//
//	frame = channel uint32 ‖ stream byte ‖ offset uint64 ‖ data
//	end   = offset uint64 ‖ reason (UTF-8)
//
// Of a record of type 5 it is a frame whose data is a uint64: how many bytes of the stream, 1 to 3,
// went by at this place. Its type stands in the clear: that something was left out shows without a key.
// where stream is 1 (person to host; in type 2 only), 2 (host's output), 3 (host's standard error)
// or 4 (data is the JSON of an Event), and offset is in nanoseconds since the header's started and
// never falls. The keys of segment n+1, one of each kind, are
//
//	key(n+1) = HKDF-Expand-SHA256(key(n), "sega recording ratchet v1", 32)
//
// A seal's body has 148 bytes:
//
//	segment uint64 ‖ records uint32 ‖ bytes uint64 ‖ hash [32] ‖ previous [32] ‖ signature [64]
//
// records and bytes count the segment's records, with their lengths and types and without the
// seal; hash is H over the same bytes. previous is the head before: H(header) for segment 1, and
// afterwards H(seal record of the segment before, from its length to its signature). signature is
// Ed25519 over "sega recording seal v1\x00" ‖ the 84 bytes before it.
//
// A recording is complete when its last segment ends with a record of type 4, nothing follows
// the seal, and no record is of type 5; with one it is whole but for what was left out, which is
// another verdict. Readers older than type 5 take such a recording for forged where the first one
// stands, never for complete: an unknown type is not skipped. It is interrupted when the end is missing; records after the last seal are its tail, which
// no signature covers and whose digest, H in hex, End carries into the log.
package recording
