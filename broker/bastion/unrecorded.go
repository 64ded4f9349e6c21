//go:build sega_bench

package bastion

// unrecorded leaves the bytes of channels out, for `make bench ONLY=bastion.bulk`. New takes a listener on
// loopback alone.
const unrecorded = true
