// Package screen owns the text of a recorded session: what a terminal showed, as lines, each once
// and each with the moment at which it was complete. It does not own what is done with the lines:
// exports (audit/recording/export) and the index (audit/indexer) do that, and the player shows
// recordings as they were.
//
// A channel with a terminal is drawn on a screen in memory, and a line of it counts as final when
// it scrolls off the top, when the screen or the line is cleared, when the alternate screen is
// entered or left, when it is overwritten after it has stood for a while, and at the end. Lines
// that wrap are one line. Programs that paint the whole screen again and again show most lines many
// times: there, what was among the last two thousand lines of the channel is not repeated. What
// merely scrolled past is never left out. Lines without anything on them are.
//
// A channel without a terminal gives the lines of its output and of its error output as they are.
// Everywhere control characters and escape sequences are gone, and what is no UTF-8 is U+FFFD.
// Input and file transfers (the subsystem sftp) are never part of it.
//
// The screen is this package's own and not that of a terminal emulator library: what scrolls off,
// wraps or is erased must be seen before it is lost, sizes and repetitions that the recorded side
// chooses must cost a bounded amount, and wide characters take two columns. The tests hold it
// against such a library.
//
// It serves the flow "text of recordings is found" of docs/architecture.md (design R11).
package screen
