// Package cast owns no code: its tests play exported recordings in the programs that people will
// play them in, Debian's asciinema and the player of npm in a headless Chromium, and compare what
// those show. The encoders are audit/recording/export; that the command line writes the same is
// tested in dev/e2e.
//
// It serves the flow "review" of docs/architecture.md.
package cast
