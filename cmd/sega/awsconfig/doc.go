// Package awsconfig owns the files of AWS's tools, ~/.aws/config and ~/.aws/credentials: their dialect
// of INI, the profiles that `sega configure` keeps in the first, what it takes over from other tools
// there, and what in either would win over sega's credentials in an SDK.
//
// A file is a list of lines, and an edit changes lines: what is not sega's comes out byte for byte
// as it went in, garbage included. The dialect has no definition of its own; it is read as botocore
// reads it (Python's configparser), and where the SDK for Go reads more (a comment behind a section's
// name), as that does. ~/.aws/credentials is read and never written.
//
// It does not own which roles there are, nor what is said to the person: cmd/sega/configureaws.go does. It
// serves the flow "AWS profiles" of docs/architecture.md.
package awsconfig
