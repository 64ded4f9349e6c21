// Package indexer owns the index of what screens showed: it fetches the recordings of sessions that
// have ended, judges each by the log's word before it opens it, draws its text and keeps it where
// it can be searched, and it answers the broker's searches with IDs of sessions, never with text.
//
// It runs in the reviewers' zone, as a machine of its own kind, with the age identity of a
// recipient, and listens on nothing. It does not own the screen (audit/recording/screen), the
// connection to the broker (its caller gives a Broker), nor who may search: the broker asks policy
// about every session that an answer names.
//
// The index is a SQLite file with the trigrams of every line, from which the text can be had: it is
// as secret as the recordings' text itself, is readable for its owner alone (0600), and belongs on
// an encrypted disk. A session's text and the mark up to which sessions are done are one
// transaction, so that a kill at any moment loses nothing and doubles nothing. What could not be
// indexed stands in it too, with the reason.
//
// It serves the flow "text of recordings is found" of docs/architecture.md (design R11).
package indexer
