//go:build linux && (amd64 || arm64)

package inherited

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What entry keeps.
var (
	stack       unsafe.Pointer            // where the kernel put argc, argv and the environment; nil: entry did not run
	mask        uint64                    // bit n-1: signal n is blocked
	actions     [lastSignal + 1][4]uint64 // struct kernel_sigaction by signal; the first word is the handler
	descriptors [3]int64                  // fcntl(fd, F_GETFD): flags, or an errno below 0
)

const (
	lastSignal = 64
	ignore     = 1 // SIG_IGN
)

// entry is named to the linker alone.
func entry()

var _ = entry

// Withheld reports whether a signal was ignored or blocked when sega started: it is not for sega.
func Withheld(s syscall.Signal) bool { return ignored(s) || mask&(1<<(s-1)) != 0 }

func ignored(s syscall.Signal) bool { return actions[s][0] == ignore }

// Environ is the environment in its order, with what stands there twice or names nothing; os.Environ
// leaves that out.
func Environ() []string {
	if stack == nil {
		return os.Environ()
	}
	argc := *(*int)(stack)
	var env []string
	for at := unsafe.Add(stack, (argc+2)*int(unsafe.Sizeof(uintptr(0)))); ; at = unsafe.Add(at, unsafe.Sizeof(uintptr(0))) {
		p := *(**byte)(at)
		if p == nil {
			return env
		}
		env = append(env, unix.BytePtrToString(p))
	}
}

// Restore gives back what was inherited. It is for the moment before execve, on whose thread it
// leaves the caller locked: Go must not run on with it.
func Restore() error {
	runtime.LockOSThread()
	if stack == nil {
		return nil
	}
	var errs []error
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		if ignored(s) {
			errs = append(errs, setIgnored(s))
		}
	}
	for fd, flags := range descriptors {
		if flags < 0 { // the runtime has put /dev/null there
			errs = append(errs, unix.Close(fd))
		}
	}
	was := unix.Sigset_t{Val: [16]uint64{mask}}
	errs = append(errs, unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil))
	return errors.Join(errs...)
}

// setIgnored is by the system call: signal.Ignore leaves those alone that Go needs for itself.
func setIgnored(s syscall.Signal) error {
	action := [4]uint64{ignore}
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); errno != 0 {
		return os.NewSyscallError("rt_sigaction", errno)
	}
	return nil
}
