// Package backend is what the backends of the audit log are made of: the committer's queue, the
// edge of the tree, the connection that it lends to changes of state, and the turns of those who read. What a
// backend adds is its database.
//
// It serves the flow "every decision is an event" of docs/architecture.md (design R3, R10, I1, I6).
package backend
