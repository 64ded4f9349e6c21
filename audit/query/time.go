package query

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// timeForms says to people how a time is written.
const timeForms = "7d, 2h, 2026-01-31 or 2026-01-31T08:00:00Z"

// ParseTime reads a time before now like 7d (s, m, h, d, w), a date in now's zone, or a time of RFC
// 3339, and returns it in UTC. Times before 1970 and after 2261 are refused: no event has them.
func ParseTime(s string, now time.Time) (time.Time, error) {
	t, err := parseTime(s, now)
	if err == nil && (t.Year() < 1970 || t.Year() > 2261) {
		err = fmt.Errorf("%.40q lies before 1970 or after 2261, where no event can be", s)
	}
	return t, err
}

func parseTime(s string, now time.Time) (time.Time, error) {
	if d, ok := parseAgo(s); ok {
		return now.Add(-d).Round(0).UTC(), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t.UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%.40q is not a time like %s", s, timeForms)
	}
	return t.UTC(), nil
}

var ago = regexp.MustCompile(`^(\d{1,6})([smhdw])$`)

// parseAgo reads a number and its unit, up to 292 years.
func parseAgo(s string) (time.Duration, bool) {
	m := ago.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.Atoi(m[1])
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
	return time.Duration(n) * unit, n <= int(math.MaxInt64/unit)
}
