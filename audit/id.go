package audit

import (
	"fmt"

	"github.com/google/uuid"
)

// NewID returns a UUIDv7 (RFC 9562 §5.7) in its canonical lower-case form. IDs of one process
// sort in the order in which they were made.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// CheckID reports what keeps id from being a canonical UUIDv7.
func CheckID(id string) error {
	u, err := uuid.Parse(id)
	if err != nil || u.String() != id || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
		return fmt.Errorf("id %.40q is not a lower-case UUIDv7", id)
	}
	return nil
}
