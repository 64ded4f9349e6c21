package sshca

import (
	"fmt"
	"strconv"
)

// Serial numbers the certificates of one CA: a 32-bit era, then a counter. A restored database
// starts a new era, so that no serial is given twice; consecutive counters keep a revocation list
// short. It is never 0, which no revocation list can name.
type Serial uint64

// NewSerial joins era and counter. Both being 0 is an error.
func NewSerial(era, counter uint32) (Serial, error) {
	s := Serial(uint64(era)<<32 | uint64(counter))
	return s, s.check()
}

// ParseSerial parses the decimal form that String returns and sshd logs.
func ParseSerial(s string) (Serial, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%w: %q is no decimal number of 64 bits", ErrSerial, clip(s))
	}
	return Serial(n), Serial(n).check()
}

// Era returns the upper half.
func (s Serial) Era() uint32 { return uint32(s >> 32) }

// Counter returns the lower half.
func (s Serial) Counter() uint32 { return uint32(s) }

// String returns the decimal form.
func (s Serial) String() string { return strconv.FormatUint(uint64(s), 10) }

func (s Serial) check() error {
	if s == 0 {
		return fmt.Errorf("%w: 0", ErrSerial)
	}
	return nil
}
