package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// version says what runs here and there.
func (x *exam) version(ctx context.Context) []Finding {
	self := fmt.Sprintf("sega %s, %s, %s/%s", x.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b, err := x.broker.get(ctx)
	if err != nil || b.config.Version == "" {
		return one(good("%s", self))
	}
	if b.config.Version != x.Version {
		return one(warning("install the sega of the broker's version", "%s; the broker is of version %s", self, b.config.Version))
	}
	return one(good("%s; the broker is of the same version", self))
}

// variables are those of sega, as README.md lists them, and those that it sets for children.
var variables = []string{"SEGA_BROKER", "SEGA_CA_FILE", "SEGA_HOME", "SEGA_KEYRING_BACKEND", "SEGA_AUDIT_IDENTITY", "SEGA_ERRORS", "SEGA_NO_AGENT", "SEGA_CONSOLE_BROWSER", "SEGA_ROLE", "SEGA_SESSION", "SEGA_ENDPOINT", "SEGA_CREDENTIAL_PROCESS"}

// environment looks for variables that do not do what somebody thinks.
func (x *exam) environment(ctx context.Context) []Finding {
	var found []Finding
	for _, kv := range x.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "SEGA_") && !strings.HasPrefix(name, "SEGA_DEV") && !slices.Contains(variables, name) {
			found = append(found, warning("unset "+name, "%s is no variable of sega's", name))
		}
	}
	if v := x.Getenv("SEGA_ERRORS"); v != "" && v != "json" {
		found = append(found, warning("unset SEGA_ERRORS", "SEGA_ERRORS is %q, and json is all that it may be", v))
	}
	if v := x.Getenv("SEGA_HOME"); v != "" && !filepath.IsAbs(v) {
		found = append(found, warning("set SEGA_HOME to a whole path", "SEGA_HOME is %q: another folder wherever you are", v))
	}
	if v := x.Getenv("SEGA_AUDIT_IDENTITY"); v != "" {
		if _, err := os.Stat(v); err != nil {
			found = append(found, warning("unset SEGA_AUDIT_IDENTITY, or name the file", "SEGA_AUDIT_IDENTITY names a file that cannot be read: %s", v))
		}
	}
	if _, err := x.Origin(); err != nil && x.Getenv("SEGA_BROKER") != "" {
		found = append(found, failing("set SEGA_BROKER to a name like sega.corp.example", "SEGA_BROKER is no broker's address: %s", x.Getenv("SEGA_BROKER")))
	}
	role, session := x.Getenv("SEGA_ROLE"), x.Getenv("SEGA_SESSION")
	if l, err := x.session.get(ctx); err == nil && session != "" && session != l.ID {
		found = append(found, warning("leave this shell: exit", "this shell has the credentials of %s by an earlier login", role))
	}
	if role != "" {
		return orGood(found, "this shell has the credentials of %s", role)
	}
	return orGood(found, "the variables of sega are in order")
}

// Space that sega needs to replace its files, and below which it will soon lack it, in bytes.
const (
	spaceFail = 1 << 20
	spaceWarn = 32 << 20
)

// home looks at sega's own folder.
func (x *exam) home(context.Context) []Finding {
	if x.Home == "" {
		return one(failing("set SEGA_HOME to a folder of your own", "there is no place for sega's folder: HOME is not set"))
	}
	info, err := os.Stat(x.Home)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return one(notYet(x.Home))
	case err != nil:
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	case !info.IsDir():
		return one(failing("move it away, or set SEGA_HOME", "%s is no folder", x.Home))
	}
	found := modes(x.Home, info)
	if err := writable(x.Home); err != nil {
		found = append(found, failing("set SEGA_HOME to a folder that can be written", "%s cannot be written: %s", x.Home, err))
	}
	free, known := space(x.Home)
	switch {
	case known && free < spaceFail:
		found = append(found, failing("free the disk of "+x.Home, "%d KiB are free where sega keeps its files", free>>10))
	case known && free < spaceWarn:
		found = append(found, warning("free the disk of "+x.Home, "%d MiB are free where sega keeps its files", free>>20))
	}
	return orGood(found, "%s is private and can be written", x.Home)
}

// notYet is of a home that is still to be made, in the first folder above it that is there.
func notYet(home string) Finding {
	for dir := filepath.Dir(home); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir):
			continue
		case err == nil && !info.IsDir():
			return failing("move it away, or set SEGA_HOME", "%s does not exist and cannot be made: %s is no folder", home, dir)
		case err == nil:
			err = writable(dir)
		}
		if err != nil {
			return failing("set SEGA_HOME to a folder that can be written", "%s does not exist and cannot be made: %s: %s", home, dir, err)
		}
		return good("%s does not exist yet: the first login makes it", home)
	}
}

// modes finds what others could write, or read though it is private.
func modes(home string, info os.FileInfo) (found []Finding) {
	if runtime.GOOS == "windows" {
		return nil
	}
	if !mine(info) {
		found = append(found, failing("set SEGA_HOME to a folder of your own", "%s belongs to somebody else", home))
	}
	if info.Mode().Perm()&0o022 != 0 {
		found = append(found, failing("chmod 700 "+home, "%s can be written by others (mode %04o)", home, info.Mode().Perm()))
	}
	for _, private := range []struct {
		name string
		mode os.FileMode
	}{{"agent", 0o700}, {"secrets", 0o700}, {"secrets/secrets.sealed", 0o600}, {"ssh/id", 0o600}} {
		path := filepath.Join(home, filepath.FromSlash(private.name))
		if info, err := os.Lstat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			found = append(found, failing(fmt.Sprintf("chmod %o %s", private.mode, path), "%s is open to others (mode %04o)", path, info.Mode().Perm()))
		}
	}
	return found
}

// agent asks the agent how it is.
func (x *exam) agent(ctx context.Context) []Finding {
	if x.Getenv("SEGA_NO_AGENT") != "" {
		return one(good("switched off by SEGA_NO_AGENT: every command asks the broker itself"))
	}
	if why := noSockets(x.AgentSocket); why != "" {
		return one(warning("set SEGA_HOME to a folder on another file system, or SEGA_NO_AGENT=1", "the agent cannot answer at %s: %s", x.AgentSocket, why))
	}
	a, err := x.Agent(ctx)
	switch {
	case errors.Is(err, ErrNoAgent):
		return one(good("none runs; whatever needs it starts it"))
	case err != nil:
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	case a.Version != x.Version:
		return one(warning("sega agent stop", "the agent is of sega %s, and this is %s: it goes on with the old one until it is stopped", a.Version, x.Version))
	case a.Mend != "":
		why := ""
		if a.Why != "" {
			why = ": " + a.Why
		}
		return one(warning(a.Mend, "the agent is %s%s", a.State, why))
	case !a.Healthy:
		return one(warning("check the broker and the network", "the agent asks the broker each time: %s", firstNonEmpty(a.Why, "its feed is lost")))
	}
	return one(good("it is %s and gives warm answers", a.State))
}

func firstNonEmpty(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
