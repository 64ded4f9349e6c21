package doctor

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	blockMark  = "# sega: hosts of "
	sshMend    = "sega configure --ssh --print > "
	maxSSHFile = 4 << 20 // bytes of a file of ssh_config that are looked at
)

// block is what a file of ssh_config says of sega.
type block struct {
	file  string
	hosts []string
	homes []string // folders of sega that it names
	tools []string // programs that it runs
}

// sshConfig looks at the block that leads stock ssh to the hosts. Nobody needs it for `sega ssh`.
func (x *exam) sshConfig(ctx context.Context) []Finding {
	path := filepath.Join(x.User, ".ssh", "config")
	b, ok := findBlock(path, x.User, 0)
	if !ok {
		f := good("stock ssh does not know your hosts; sega ssh does")
		f.Mend = "sega configure --ssh"
		return one(f)
	}
	var found []Finding
	for _, home := range b.homes {
		if unquoted(home) != x.Home {
			found = append(found, warning(sshMend+b.file, "the block in %s is of another folder of sega: %s", b.file, unquoted(home)))
		}
	}
	for _, tool := range b.tools {
		if _, err := os.Stat(unquoted(tool)); err != nil {
			found = append(found, failing(sshMend+b.file, "the block in %s runs a program that is gone: %s", b.file, unquoted(tool)))
		}
	}
	if missing, known := x.missing(ctx, b.hosts); known && len(missing) > 0 {
		found = append(found, warning(sshMend+b.file, "the block in %s lacks %d of your hosts: %s", b.file, len(missing), shortened(missing)))
	}
	return orGood(found, "the block in %s is up to date", b.file)
}

// missing are hosts that the person may open and that the block does not name.
func (x *exam) missing(ctx context.Context, named []string) (hosts []string, known bool) {
	if _, why := x.asker(ctx); why != nil {
		return nil, false
	}
	v, err := x.hostsOf.get(ctx)
	if err != nil {
		return nil, false
	}
	for _, h := range v.Hosts {
		if h.Allowed && !slices.Contains(named, h.Name) {
			hosts = append(hosts, h.Name)
		}
	}
	return hosts, true
}

func shortened(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func unquoted(path string) string { return strings.ReplaceAll(path, "%%", "%") }

// findBlock looks for the block in a file and in those that it includes.
func findBlock(path, user string, depth int) (b block, ok bool) {
	f, err := os.Open(path)
	if err != nil || depth > 8 { // ssh itself stops at 16
		return b, false
	}
	defer func() { _ = f.Close() }()
	b.file = path
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxSSHFile {
		return b, false
	}
	var (
		blockHost = regexp.MustCompile(`^\s*Match originalhost (\S+) `)
		blockExec = regexp.MustCompile(` exec "SEGA_HOME='([^']*)' '([^']*)' `)
		include   = regexp.MustCompile(`(?i)^\s*include\s+(.+)$`)
		includes  []string
	)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxSSHFile)
	for lines.Scan() {
		line := lines.Text()
		ok = ok || strings.HasPrefix(line, blockMark)
		if m := include.FindStringSubmatch(line); m != nil {
			includes = append(includes, strings.Fields(m[1])...)
		}
		if m := blockHost.FindStringSubmatch(line); m != nil {
			b.hosts = append(b.hosts, m[1])
		}
		if m := blockExec.FindStringSubmatch(line); m != nil {
			b.homes, b.tools = append(b.homes, m[1]), append(b.tools, m[2])
		}
	}
	if ok {
		slices.Sort(b.homes)
		slices.Sort(b.tools)
		b.homes, b.tools = slices.Compact(b.homes), slices.Compact(b.tools)
		return b, true
	}
	for _, pattern := range includes {
		for _, file := range included(pattern, user) {
			if b, ok := findBlock(file, user, depth+1); ok {
				return b, true
			}
		}
	}
	return block{}, false
}

// included expands what an Include names (ssh_config(5)): relative to ~/.ssh, with ~ and wildcards.
func included(pattern, user string) []string {
	pattern = strings.Trim(pattern, `"`)
	switch {
	case strings.HasPrefix(pattern, "~/"):
		pattern = filepath.Join(user, pattern[2:])
	case !filepath.IsAbs(pattern):
		pattern = filepath.Join(user, ".ssh", pattern)
	}
	files, _ := filepath.Glob(pattern) // a bad pattern matches nothing
	return files
}

// sshAgent looks at the agent that ssh itself would ask. sega's commands do not use it.
func (x *exam) sshAgent(ctx context.Context) []Finding {
	path := x.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		return one(good("SSH_AUTH_SOCK is not set, and sega does not need it"))
	}
	if _, err := os.Stat(path); err != nil {
		return one(warning("unset SSH_AUTH_SOCK", "SSH_AUTH_SOCK names a socket that is not there: %s", path))
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return one(warning("unset SSH_AUTH_SOCK", "nobody answers at SSH_AUTH_SOCK: %s", path))
	}
	_ = conn.Close()
	return one(good("SSH_AUTH_SOCK leads to an agent; sega's commands use none but their own"))
}
