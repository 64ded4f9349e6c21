// Package bucket owns where recordings are kept: a recording is a series of objects, numbered from
// 0, whose bytes in order are the recording. Dir keeps them in a folder; Uploader copies a growing
// spool into any Store, so that another object storage needs its Store and nothing else.
//
// It does not own the format (audit/recording) and understands none of it: what a bucket holds is
// judged by recording.Verify.
//
// It serves the flow "open a host" of docs/architecture.md.
package bucket
