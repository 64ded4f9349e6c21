//go:build unix

package main

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestSupervisor is what the tests below start in a process group of its own, and no test of its own.
func TestSupervisor(t *testing.T) {
	script := os.Getenv("SEGA_TEST_CHILD")
	if script == "" {
		t.Skip("it is for other tests")
	}
	os.Exit(exitCode(runChild(t.Context(), exec.Command("/bin/sh", "-c", script))))
}

// TestStoppedChild: where the child stops, as ssh does at ~^Z, the shell that waits for us must see us stop, too; its
// "fg" continues both, and so does whoever continues us alone.
func TestStoppedChild(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script string
		stop   syscall.Signal
		group  bool // of ours is continued, as a shell does
	}{
		"fg of a shell":            {"kill -TSTP $$; exit 5", syscall.SIGTSTP, true},
		"we alone are continued":   {"kill -TSTP $$; exit 5", syscall.SIGTSTP, false},
		"stopped without a choice": {"kill -STOP $$; exit 5", syscall.SIGSTOP, true},
	} {
		t.Run(name, func(t *testing.T) {
			run := exec.Command(self, "-test.run=^TestSupervisor$")
			run.Env = append(os.Environ(), "SEGA_TEST_CHILD="+c.script)
			run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			pid := run.Process.Pid
			t.Cleanup(func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
			if s := waitFor(t, pid); !s.Stopped() || s.StopSignal() != c.stop {
				t.Fatalf("%#x instead of a stop by %v", s, c.stop)
			}
			whom := pid
			if c.group {
				whom = -pid
			}
			if err := syscall.Kill(whom, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if s := waitFor(t, pid); !s.Exited() || s.ExitStatus() != 5 {
				t.Errorf("%#x at the end, want exit status 5", s)
			}
		})
	}
}

// TestTerminalStopsBoth: at the terminal's ^Z the kernel stops us and the child, and one "fg" continues both. We may have heard of
// the child's stop just before our own. Where we run again an instant before the child does, it takes a second "fg": now and then on a
// busy machine, and every other time before that was looked at.
func TestTerminalStopsBoth(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for range 12 {
		run := exec.Command(self, "-test.run=^TestSupervisor$")
		run.Env = append(os.Environ(), "SEGA_TEST_CHILD=echo up; read x; exit 5")
		run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		in, err := run.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := run.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		pid := run.Process.Pid
		t.Cleanup(func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
		if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(-pid, syscall.SIGTSTP); err != nil {
			t.Fatal(err)
		}
		if s := waitFor(t, pid); !s.Stopped() {
			t.Fatalf("%#x instead of a stop", s)
		}
		time.Sleep(20 * time.Millisecond) // the child's stop, too
		if err := syscall.Kill(-pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		s := waitFor(t, pid)
		if s.Stopped() {
			again++
			if err := syscall.Kill(-pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			s = waitFor(t, pid)
		}
		if !s.Exited() || s.ExitStatus() != 5 {
			t.Fatalf("%#x after it was continued, want exit status 5", s)
		}
	}
	if again > 3 {
		t.Errorf("%d of 12 times it took a second fg", again)
	}
}

func waitFor(t *testing.T, pid int) (s syscall.WaitStatus) {
	t.Helper()
	for {
		_, err := syscall.Wait4(pid, &s, syscall.WUNTRACED, nil)
		if err == nil {
			return s
		}
		if err != syscall.EINTR {
			t.Fatal(err)
		}
	}
}
