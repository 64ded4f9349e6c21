//go:build linux

package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sega/broker/api"
	"sega/sshca"
)

// accountMark stands in the comment of every account that we have made.
const accountMark = "made by sega host"

// accountTime bounds a run of useradd or usermod.
const accountTime = 20 * time.Second

// book is the accounts that this host has made. An account is ours that stands in it and has our mark in its comment:
// others are never touched, whatever their names.
type book map[string]entry

// entry is an account of the book. It stays that person's: who comes later by the same e-mail does not get his files.
type entry struct {
	Person string `json:"person"`
	Locked bool   `json:"locked"`
}

// keeper makes and locks Unix accounts. Locking is all that happens to one that goes: its files may be evidence.
type keeper struct {
	Accounts
	prefix string // of the files of accounts, in tests; "" for the system's own
	path   string // of the book
	book   book
	say    func(login string, err error)
}

func newKeeper(c Config, say func(string, error)) (*keeper, error) {
	k := &keeper{path: c.file(accountsName), book: book{}, say: say}
	if c.Accounts != nil {
		k.Accounts = *c.Accounts
	}
	data, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k.book)
	}
	return k, err
}

// sync makes the accounts that are wanted, unlocks those that come back, locks the others of ours, and returns those that
// people may log in to. One that fails is left out, and tried again the next time.
func (k *keeper) sync(ctx context.Context, wanted []api.HostAccount) []api.HostAccount {
	ready := []api.HostAccount{}
	want := map[string]bool{}
	for _, a := range wanted {
		want[a.Login] = true
		if err := k.open(ctx, a); err != nil {
			k.say(a.Login, err)
			continue
		}
		ready = append(ready, a)
	}
	for login, e := range k.book {
		if want[login] || e.Locked {
			continue
		}
		if err := k.lock(ctx, login); err != nil {
			k.say(login, err)
		}
	}
	return ready
}

// errForeign is for an account of somebody else's making.
var errForeign = errors.New("the account exists and was not made by sega: nobody is let into it as his own")

// errOther is for an account that was made for somebody else, whom the broker knew by the same name.
var errOther = errors.New("the account was made for another person, and his files are in it\nto give the name to whoever has it now: userdel --remove LOGIN")

// open sees that an account is there and not locked.
func (k *keeper) open(ctx context.Context, a api.HostAccount) error {
	if err := sshca.CheckLogin(a.Login); err != nil {
		return err
	}
	was, known := k.book[a.Login]
	exists, ours, err := k.look(ctx, a.Login)
	switch {
	case err != nil:
		return err
	case exists && (!known || !ours):
		return errForeign
	case exists && was.Person != a.Person:
		return errOther
	case exists && !was.Locked:
		return nil
	case exists:
		if err := k.run(ctx, "usermod", "--unlock", "--expiredate", "", "--groups", strings.Join(k.UnixGroups, ","), a.Login); err != nil {
			return err
		}
		return k.note(a.Login, entry{Person: a.Person})
	}
	// The book first: an account that is made and not in it would be nobody's.
	if err := k.note(a.Login, entry{Person: a.Person}); err != nil {
		return err
	}
	// No password at all, rather than a locked one, which sshd without PAM takes for a locked account.
	args := []string{"--create-home", "--password", "*", "--comment", comment(a.Name)}
	if k.Shell != "" {
		args = append(args, "--shell", k.Shell)
	}
	if len(k.UnixGroups) > 0 {
		args = append(args, "--groups", strings.Join(k.UnixGroups, ","))
	}
	return k.run(ctx, "useradd", append(args, a.Login)...)
}

// comment is what stands in the account's GECOS field: a colon or a comma there would begin another.
func comment(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(":,=\\", r) {
			return -1
		}
		return r
	}, name)
	return strings.TrimSpace(name + " (" + accountMark + ")")
}

// lock shuts an account, and takes its groups away.
func (k *keeper) lock(ctx context.Context, login string) error {
	exists, ours, err := k.look(ctx, login)
	if err != nil {
		return err
	}
	if exists && ours {
		if err := k.run(ctx, "usermod", "--lock", "--expiredate", "1", "--groups", "", login); err != nil {
			return err
		}
		if k.Kill && k.prefix == "" {
			_ = exec.CommandContext(ctx, "pkill", "-KILL", "-u", login).Run() // 1: nothing ran
		}
	}
	return k.note(login, entry{Person: k.book[login].Person, Locked: true})
}

// note enters an account in the book. One that is not on the disk is not in memory either: after a restart an account
// that was made all the same would be nobody's.
func (k *keeper) note(login string, e entry) error {
	if was, known := k.book[login]; known && was == e {
		return nil
	}
	next := maps.Clone(k.book)
	next[login] = e
	data, err := json.Marshal(next)
	if err == nil {
		err = writeFile(k.path, data, 0o600)
	}
	if err == nil {
		k.book = next
	}
	return err
}

func (k *keeper) run(ctx context.Context, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	if k.prefix != "" {
		args = append([]string{"--prefix", k.prefix}, args...)
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// look finds an account, of whatever directory the system asks, and whether it bears our mark.
func (k *keeper) look(ctx context.Context, login string) (exists, ours bool, err error) {
	line, err := k.entry(ctx, login)
	if err != nil || line == "" {
		return false, false, err
	}
	fields := strings.Split(line, ":")
	if len(fields) < 7 || fields[0] != login {
		return false, false, fmt.Errorf("the entry of %q is none", login)
	}
	return true, strings.Contains(fields[4], accountMark), nil
}

func (k *keeper) entry(ctx context.Context, login string) (string, error) {
	if k.prefix == "" {
		ctx, cancel := context.WithTimeout(ctx, accountTime)
		defer cancel()
		out, err := exec.CommandContext(ctx, "getent", "passwd", login).Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 { // getent(1): not found
			return "", nil
		}
		return strings.TrimSpace(string(out)), err
	}
	f, err := os.Open(filepath.Join(k.prefix, "etc/passwd"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), login+":") {
			return lines.Text(), nil
		}
	}
	return "", lines.Err()
}
