//go:build !sega_bench

package bastion

// unrecorded is of the build that measures what recording costs. In every other one all is recorded (I2).
const unrecorded = false
