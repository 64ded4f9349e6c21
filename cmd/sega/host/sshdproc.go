//go:build linux

package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// process is an sshd that runs.
type process struct {
	pid   int       // 0: none does
	mark  string    // another once it has started itself anew and listens
	since time.Time // it listens; zero where that is not known
}

// findSSHD finds the sshd of a configuration, by its PID file where it has one, else by where it listens, and returns how to look
// for it again.
func findSSHD(e effective) (look func() (process, error), now process, err error) {
	if path := strings.Join(e["pidfile"], ""); path != "" && path != "none" {
		look = func() (process, error) { return byPIDFile(path) }
		if now, err = look(); err != nil || now.pid != 0 {
			return look, now, err
		}
	}
	look = func() (process, error) { return byListener(e["listenaddress"]) }
	now, err = look()
	return look, now, err
}

// byPIDFile finds the sshd of a PID file, which it writes again once it listens.
func byPIDFile(path string) (process, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	if err != nil {
		return process{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return process{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 2 {
		return process{}, fmt.Errorf("%s holds no process ID", path)
	}
	if !isSSHD(pid) {
		return process{}, nil // of an sshd that has ended
	}
	return process{pid, info.ModTime().String(), info.ModTime()}, nil
}

func isSSHD(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(string(comm)) == "sshd"
}

// byListener finds the sshd that holds a socket at one of the addresses, as `sshd -T` has them. The sshds of its sessions hold none.
func byListener(addresses []string) (process, error) {
	sockets, err := listenersAt(addresses)
	if err != nil || len(sockets) == 0 {
		return process{}, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return process{}, err
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !isSSHD(pid) {
			continue
		}
		if socket := heldBy(dir, sockets); socket != "" {
			return process{pid: pid, mark: socket + " " + imageOf(dir)}, nil
		}
	}
	return process{}, nil
}

// heldBy returns the socket among some that a process holds, "" where it holds none.
func heldBy(dir string, sockets []string) string {
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return "" // it has ended
	}
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if err == nil && slices.Contains(sockets, link) {
			return link
		}
	}
	return ""
}

// imageOf tells the program that a process runs from the one that it ran before: by where its stack begins (proc(5), stat), which
// is another each time. A socket that systemd has given stays the same.
func imageOf(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ") // behind the name
	fields := strings.Fields(rest)
	const startstack = 28 - 3 // of all fields, the third is the first here
	if len(fields) <= startstack {
		return ""
	}
	return fields[startstack]
}

// listenersAt returns the sockets that listen at addresses, as the links of descriptors name them.
func listenersAt(addresses []string) (sockets []string, err error) {
	var want []netip.AddrPort
	for _, a := range addresses {
		if v, err := netip.ParseAddrPort(a); err == nil {
			want = append(want, netip.AddrPortFrom(v.Addr().WithZone(""), v.Port()))
		}
	}
	for _, path := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(table)) {
			if at, inode, ok := parseListener(line); ok && slices.Contains(want, at) {
				sockets = append(sockets, "socket:["+inode+"]")
			}
		}
	}
	return sockets, nil
}

// parseListener reads a line of /proc/net/tcp or tcp6 (proc_net_tcp of the kernel's documentation); false where nothing listens there.
func parseListener(line string) (at netip.AddrPort, inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" { // TCP_LISTEN
		return at, "", false
	}
	address, port, found := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(address)
	if !found || err != nil || len(raw)%4 != 0 {
		return at, "", false
	}
	for word := raw; len(word) > 0; word = word[4:] { // in the order of the machine, which is little-endian on all that sega is built for
		slices.Reverse(word[:4])
	}
	ip, known := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if _, inodeErr := strconv.ParseUint(fields[9], 10, 64); !known || err != nil || inodeErr != nil {
		return at, "", false
	}
	return netip.AddrPortFrom(ip, uint16(n)), fields[9], true
}
