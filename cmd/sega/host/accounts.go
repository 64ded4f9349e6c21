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
	"strconv"
	"strings"
	"time"

	"sega/broker/api"
	"sega/sshca"
)

// accountMark stands in the comment of every account that we have made, for people to read: where chfn is open they may change it.
const accountMark = "made by sega host"

// accountTime bounds a run of useradd or usermod.
const accountTime = 20 * time.Second

// book is the accounts that this host has made, in a file of root's. An account is ours that stands in it by name and
// number: others are never touched, whatever their names.
type book map[string]entry

// entry is an account of the book. It stays that person's: who comes later by the same e-mail does not get his files.
type entry struct {
	Person string `json:"person"`
	UID    int    `json:"uid,omitempty"` // 0: not known yet, as where we died while it was made
	Locked bool   `json:"locked"`
}

// found is an account as the system has it; UID 0 is root's, or none.
type found struct {
	uid    int
	marked bool
	exists bool
}

// ours reports whether what was found is the account of an entry. Before its number is known nobody has been let into it, and
// the mark is as we made it.
func (e entry) ours(f found) bool {
	return f.exists && f.uid > 0 && (e.UID == f.uid || e.UID == 0 && f.marked)
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
	k := &keeper{prefix: c.prefix, path: c.file(accountsName), book: book{}, say: say}
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
		err := k.open(ctx, a)
		if !errors.Is(err, errOther) { // whose account it is has gone: it is nobody's to keep open
			want[a.Login] = true
		}
		if err != nil {
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
var errOther = errors.New("the account was made for another person, whose files may still be here: the name stays his")

// errNotLocked is said once of an account that goes and is not the one that was made.
var errNotLocked = errors.New("the account is not locked: it has another number than the one that sega made, and is root's to look after")

// errHome is for a home that somebody has left.
var errHome = errors.New("there is a home of that name already, and it is not known whose files are in it")

// open sees that an account is there and not locked.
func (k *keeper) open(ctx context.Context, a api.HostAccount) error {
	if err := sshca.CheckLogin(a.Login); err != nil {
		return err
	}
	was, known := k.book[a.Login]
	if known && was.Person != a.Person {
		return errOther
	}
	f, err := k.look(ctx, a.Login)
	switch {
	case err != nil:
		return err
	case f.exists && !(known && was.ours(f)):
		return errForeign
	case f.exists && was.Locked:
		if err := k.run(ctx, "usermod", "--unlock", "--expiredate", "", "--groups", strings.Join(k.UnixGroups, ","), a.Login); err != nil {
			return err
		}
	case !f.exists:
		if f, err = k.make(ctx, a, known); err != nil {
			return err
		}
	}
	return k.note(a.Login, entry{Person: a.Person, UID: f.uid})
}

// make makes an account. One that this person had, and that root has deleted, may find its home again.
func (k *keeper) make(ctx context.Context, a api.HostAccount, had bool) (found, error) {
	if !had {
		if err := k.homeless(a.Login); err != nil {
			return found{}, err
		}
	}
	// The book first: an account that is made and not in it would be nobody's.
	if err := k.note(a.Login, entry{Person: a.Person}); err != nil {
		return found{}, err
	}
	// No password at all, rather than a locked one, which sshd without PAM takes for a locked account.
	args := []string{"--create-home", "--password", "*", "--comment", comment(a.Name)}
	if k.Shell != "" {
		args = append(args, "--shell", k.Shell)
	}
	if len(k.UnixGroups) > 0 {
		args = append(args, "--groups", strings.Join(k.UnixGroups, ","))
	}
	if err := k.run(ctx, "useradd", append(args, a.Login)...); err != nil {
		return found{}, err
	}
	f, err := k.look(ctx, a.Login)
	if err == nil && !f.exists {
		err = errors.New("useradd has made it, and it is not there")
	}
	return f, err
}

// homeless refuses an account whose home is there: useradd would give it to whoever comes, or to whom its number was given. Where
// homes are says useradd(8)'s own file.
func (k *keeper) homeless(login string) error {
	defaults, err := os.ReadFile(filepath.Join(k.prefix, "/etc/default/useradd"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	home := "/home"
	for line := range strings.Lines(string(defaults)) {
		if dir, is := strings.CutPrefix(strings.TrimSpace(line), "HOME="); is {
			home = dir
		}
	}
	path := filepath.Join(k.prefix, home, login)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errHome, path)
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
	was := k.book[login]
	f, err := k.look(ctx, login)
	if err != nil {
		return err
	}
	switch {
	case f.exists && !was.ours(f):
		k.say(login, errNotLocked)
	case f.exists:
		was.UID = f.uid
		if err := k.run(ctx, "usermod", "--lock", "--expiredate", "1", "--groups", "", login); err != nil {
			return err
		}
		if k.Kill && k.prefix == "" {
			_ = exec.CommandContext(ctx, "pkill", "-KILL", "-u", login).Run() // 1: nothing ran
		}
	}
	was.Locked = true
	return k.note(login, was)
}

// lockAccounts shuts all accounts that this host has made.
func (c Config) lockAccounts(ctx context.Context) error {
	var errs error
	k, err := newKeeper(c, func(login string, err error) {
		errs = errors.Join(errs, fmt.Errorf("the account %s is not locked: %w", login, err))
	})
	if err != nil {
		return err
	}
	k.sync(ctx, nil)
	return errs
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

// look finds an account, of whatever directory the system asks.
func (k *keeper) look(ctx context.Context, login string) (found, error) {
	line, err := k.entry(ctx, login)
	if err != nil || line == "" {
		return found{}, err
	}
	fields := strings.Split(line, ":")
	if len(fields) < 7 || fields[0] != login {
		return found{}, fmt.Errorf("the entry of %q is none", login)
	}
	uid, err := strconv.Atoi(fields[2])
	if err != nil {
		return found{}, fmt.Errorf("the entry of %q has no number: %w", login, err)
	}
	return found{uid: uid, marked: strings.Contains(fields[4], accountMark), exists: true}, nil
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
