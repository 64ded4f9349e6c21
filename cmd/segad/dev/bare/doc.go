// Package bare holds the tests that compare a command under `sega exec` with the bare one: what it
// finds when it starts (signals, files, limits, groups, terminal, environment, arguments) and how it
// ends. testdata/probe.c makes what a caller may set up, and tells what it finds.
//
// It serves the flow "AWS credentials" of docs/architecture.md.
package bare
