// Package doctor owns the checks of `sega doctor`: each looks at one thing that work with sega needs,
// says in a line how it is, and names what mends it. Checks run at once, each within a time of its own,
// and neither change anything nor ask anybody: they do on a full disk, in a home that can only be read,
// without a network and before the first login.
//
// It does not own how the broker, the stored secrets, the agent or AWS's files are reached: that comes in
// with a World. It serves no flow of docs/architecture.md; it says which of them would work here.
package doctor
