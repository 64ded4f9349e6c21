// Package bucket owns where recordings are kept: a recording is a series of objects, numbered from
// 0, whose bytes in order are the recording. Dir keeps them in a folder, Cloud in an object storage
// through gocloud.dev/blob; Uploader copies a growing spool into either. What is in a bucket is
// never replaced: an object comes once, and other bytes under its name are ErrConflict.
//
// It does not own the format (audit/recording) and understands none of it: what a bucket holds is
// judged by recording.Verify. Nor does it know of addresses and credentials: cmd/segad opens the
// storage.
//
// It serves the flow "open a host" of docs/architecture.md.
// Why a folder is no gocloud bucket: docs/decisions/recordings-on-disk-without-gocloud.md.
package bucket
