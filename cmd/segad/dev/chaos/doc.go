// Package chaos holds the tests that harm a running sega: servers killed at random moments, a
// broker that does not answer, full and read-only disks, a database set back to a backup, clocks
// that are hours off. Each proves a part of I1, I2, I4, I6, R3 or R10 on the real binaries.
//
// It runs broker and bastion itself, beside a `segad dev up` that lends provider, STS double and
// host. SEGA_SOAK=1 runs everything in full, without it a tenth. It serves no flow of its own.
package chaos
