// Package query owns the language in which reviewers ask for events: its tree, what each part of it
// means, its parser and its canonical text. It is the one language of the command line, the API
// and the store. It knows no database: a backend translates the tree, and Query.Match is what every
// translation must agree with.
//
// It serves the flow "a reviewer searches" of docs/architecture.md.
package query
