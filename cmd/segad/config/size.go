package config

import (
	"errors"
	"strconv"
	"strings"
)

// Size is a number of bytes with a unit, like 512MiB.
type Size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	for unit, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		number, ok := strings.CutSuffix(string(text), unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 22)
		if err != nil {
			break
		}
		*s = Size(int64(n) * bytes)
		return nil
	}
	return errors.New("a size is a whole number and a unit, like 512MiB: KiB, MiB, GiB or TiB")
}
