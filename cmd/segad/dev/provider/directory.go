package provider

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// directory is who can log in.
type directory struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	users    map[string]User
	disabled map[string]bool
}

func newDirectory(now func() time.Time) *directory {
	return &directory{now: now, users: map[string]User{}, disabled: map[string]bool{}}
}

// set adds or replaces a user. The subject stays one person's: a second user may not take it.
func (d *directory) set(u User) error {
	if u.Email == "" || u.Subject == "" || u.Password == "" {
		return fmt.Errorf("provider: user %q needs an e-mail address, a subject and a password", u.Email)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.users {
		if other.Subject == u.Subject && !strings.EqualFold(other.Email, u.Email) {
			return fmt.Errorf("provider: users %s and %s have the same subject", other.Email, u.Email)
		}
	}
	u.Groups = slices.Clone(u.Groups)
	d.users[strings.ToLower(u.Email)] = u
	delete(d.disabled, strings.ToLower(u.Email))
	return nil
}

func (d *directory) disable(email string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disabled[strings.ToLower(email)] = true
}

// bySubject returns an enabled user.
func (d *directory) bySubject(sub string) (User, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, u := range d.users {
		if u.Subject == sub {
			return u, !d.disabled[key]
		}
	}
	return User{}, false
}

// byEmail returns an enabled user.
func (d *directory) byEmail(email string) (User, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := strings.ToLower(strings.TrimSpace(email))
	u, ok := d.users[key]
	return u, ok && !d.disabled[key]
}

// checkPassword says nothing about whether the user exists.
func (d *directory) checkPassword(email, password string) (User, bool) {
	u, ok := d.byEmail(email)
	return u, ok && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
}

// checkTOTP accepts the code of this step and of the ones beside it (RFC 6238 §5.2). A code may
// be used again within its step, so that two logins in one test need not wait.
func (d *directory) checkTOTP(u User, code string) bool {
	ok, err := totp.ValidateCustom(strings.TrimSpace(code), u.TOTPSecret, d.now(), totp.ValidateOpts{
		Period: 30, Skew: 1, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	return err == nil && ok
}
