// Package unasked keeps bubbletea from asking the terminal for its colours while the process
// starts. Bubbletea does so in its package initialisation (tea_init.go of v1.3), that is in every
// command of the program that links it: `sega ssh` on a terminal would write a query, wait up to
// five seconds for an answer that a slow connection delays, and swallow what the person typed ahead.
//
// The query is left out where the variable CI is set (termenv's Output.isTTY), so this package sets it while
// packages are initialised, and Done puts the environment back before main begins. It comes in time because Go
// initialises, of the packages whose imports are ready, the one whose path sorts first (the language
// specification, "Program initialization"): this one imports syscall alone; bubbletea waits for os, which waits for
// time, which sorts behind it and is not ready sooner. A test runs the program on a terminal and sees that nothing is asked.
//
// It owns nothing else, and only package tui may import it. Bubbletea v2 asks nothing by itself:
// with it this package goes.
package unasked

import "syscall"

// variable is what termenv reads.
const variable = "CI"

var before, wasSet = syscall.Getenv(variable)

var errSet = syscall.Setenv(variable, "sega")

// Done puts the environment back as it was. Whoever imports bubbletea calls it while his own package is initialised.
func Done() error {
	if errSet != nil {
		return errSet
	}
	if wasSet {
		return syscall.Setenv(variable, before)
	}
	return syscall.Unsetenv(variable)
}
