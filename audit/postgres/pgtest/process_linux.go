package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func setProcess(c *exec.Cmd, a *account) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT} // "immediate" shutdown
	if a != nil {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

// start starts a process that ends with this one, and closes done when it has ended. The signal of
// its parent's death is tied to the thread that started it: that one waits for it.
func start(c *exec.Cmd, done chan struct{}) error {
	started := make(chan error)
	go func() { // ends with the process
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait()
			close(done)
		}
	}()
	return <-started
}

// killAll kills a process and its children. Each of the server's processes is a session of its own,
// so that no group holds them together.
func killAll(pid int, within time.Duration) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // it starts no more children
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	victims := append(children(pid), pid)
	for _, v := range victims {
		_ = syscall.Kill(v, syscall.SIGKILL) // a child may have ended by itself
	}
	deadline := time.Now().Add(within)
	for _, v := range victims[:len(victims)-1] {
		for alive(v) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d does not die", v)
			}
			time.Sleep(time.Millisecond) // between two looks
		}
	}
	return nil
}

// children lists the processes of a parent.
func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, f := range stats {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			if state, ppid := stat(pid); state != "" && ppid == parent {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive reports whether a process still runs; one that nobody has waited for does not.
func alive(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

// stat reads state and parent of a process (proc(5)); the state is "" where it is gone.
func stat(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // the name before may hold anything
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent
}
