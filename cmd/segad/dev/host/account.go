//go:build unix

package host

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

const (
	passwdFile   = "/etc/passwd"
	defaultShell = "/bin/sh"
	defaultPath  = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
)

// account is whom programs run as: whoever runs the server.
type account struct{ name, home, shell string }

func currentAccount(home string) (account, error) {
	u, err := user.Current()
	if err != nil {
		return account{}, err
	}
	// Where accounts do not live in the file (macOS, a directory service), the environment knows.
	passwd, _ := os.ReadFile(passwdFile)
	shell := cmp.Or(shellOf(string(passwd), u.Uid), os.Getenv("SHELL"), defaultShell)
	if !filepath.IsAbs(shell) {
		return account{}, fmt.Errorf("the shell %q of %s is no absolute path", shell, u.Username)
	}
	return account{name: u.Username, home: cmp.Or(home, u.HomeDir), shell: shell}, nil
}

// shellOf returns the shell of the first account with that user ID in a passwd(5) file, and "" where
// there is none.
func shellOf(passwd, uid string) string {
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) == 7 && fields[2] == uid {
			return fields[6]
		}
	}
	return ""
}

// environment is what sshd gives every program. Nothing of the server's own environment goes over
// but PATH: developers' tools live in unusual places.
func (a account) environment(local, remote net.Addr) []string {
	from, fromPort, _ := net.SplitHostPort(remote.String())
	to, toPort, _ := net.SplitHostPort(local.String())
	return []string{
		"USER=" + a.name, "LOGNAME=" + a.name, "HOME=" + a.home, "SHELL=" + a.shell,
		"PATH=" + cmp.Or(os.Getenv("PATH"), defaultPath),
		strings.Join([]string{"SSH_CLIENT=" + from, fromPort, toPort}, " "),
		strings.Join([]string{"SSH_CONNECTION=" + from, fromPort, to, toPort}, " "),
	}
}

// directory returns the home directory, or the root where it cannot be entered.
func (a account) directory() string {
	if info, err := os.Stat(a.home); err == nil && info.IsDir() {
		return a.home
	}
	return "/"
}
