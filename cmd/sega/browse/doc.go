// Package browse is the full-screen browser of the audit log behind `sega audit`: a query that
// filters while it is typed, the list of events, one event in detail, and the way to its replay.
//
// It owns what stands on the screen, the keys, and when the broker is asked: every request is an
// audit.read event, so it asks for a new text only when typing has rested, never twice for the same,
// for further pages only where somebody goes, and for what is new only at a key. It keeps a bounded part
// of the list in memory.
//
// It does not own how the broker is reached (Source), how a recording is played (Config.Play), or what an
// error means to a person (Config.Explain): cmd/sega/auditbrowse.go brings them. What comes from
// the log goes through tui.Clean before it reaches the terminal.
//
// It serves the flow "a reviewer searches" of docs/architecture.md.
package browse
