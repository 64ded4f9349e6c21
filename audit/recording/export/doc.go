// Package export owns how others read a recording: asciicast of version 2 and 3, what the screen
// showed as text, and the bytes as they were.
//
// It does not own the format of recordings (audit/recording), nor the terminal emulator that says
// what a screen showed (audit/recording/screen), nor who may export: the broker decides, and the
// reviewer's identity opens the recording.
//
// What a recorded side may do to the terminal of a reader is decided here: Harmless lets pass what shows,
// for asciicasts and for the player of cmd/sega.
//
// It serves the flow "review" of docs/architecture.md (design R11). A session may have several
// channels, and each of these forms holds one: Channels says what there is, Choose which is meant.
// Encoders are pure: a Reader goes in, bytes come out. A recording that was not closed by its
// bastion is written as far as it goes, and the encoder then returns recording.ErrInterrupted.
//
// Sources: the pages "asciicast v2" and "asciicast v3" of docs.asciinema.org.
package export
