//go:build linux

package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// threadNamespace is the network namespace of the calling thread.
const threadNamespace = "/proc/thread-self/ns/net"

// LoopbackUp gives the namespace of the calling thread its loopback, which a new one lacks.
func LoopbackUp() error { return up("lo") }

// otherSide makes the laptop's namespace and its device.
func otherSide() (dev *os.File, namespace int, err error) {
	unshare := func() error { return unix.Unshare(unix.CLONE_NEWNET) }
	err = within(unshare, func() (err error) {
		// 64.0.0.0/2 lies behind the device, and with it 127.0.0.1; the kernel makes no route of 0.0.0.0/0 here.
		if dev, err = device("sega-laptop", Laptop, "192.0.0.0"); err != nil {
			return err
		}
		namespace, err = unix.Open(threadNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return dev, namespace, err
}

// In runs f in the laptop's namespace: sockets that f opens, and processes that it starts, are there. What f starts
// as goroutines is not.
func (l *Link) In(f func()) error {
	return within(func() error { return unix.Setns(l.laptop, unix.CLONE_NEWNET) }, func() error { f(); return nil })
}

// within runs f on a thread that has entered another namespace, and returns when the thread has left it. The thread lives
// on: a process that it has started with a parent-death signal would get that with its end.
func within(enter, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open(threadNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		if err = enter(); err == nil {
			err = f()
		} else {
			err = fmt.Errorf("enter a network namespace: %w", err)
		}
		back := unix.Setns(home, unix.CLONE_NEWNET)
		if back == nil {
			runtime.UnlockOSThread() // else the runtime ends it with this goroutine
		}
		done <- errors.Join(err, back, unix.Close(home))
	}()
	return <-done
}

func closeNamespace(fd int) error { return unix.Close(fd) }

// device makes a TUN device (Documentation/networking/tuntap.rst of Linux) in the namespace of the calling thread.
func device(name, addr, mask string) (*os.File, error) {
	fail := func(what string, err error) (*os.File, error) {
		return nil, fmt.Errorf("%s of %s: %w", what, name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("/dev/net/tun", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fail("device", err)
	}
	dev := os.NewFile(uintptr(fd), name) // non-blocking: Close ends a Read
	for _, step := range []func() error{
		func() error { return address(name, unix.SIOCSIFADDR, addr) },
		func() error { return address(name, unix.SIOCSIFNETMASK, mask) },
		func() error { return up(name) },
		// Servers listen on 127.0.0.1 alone; the kernel would take such packets for forged (ip-sysctl.rst).
		func() error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/route_localnet", []byte("1"), 0)
		},
	} {
		if err := step(); err != nil {
			_ = dev.Close()
			return fail("setting", err)
		}
	}
	return dev, nil
}

func address(name string, request uint, addr string) error {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return err
	}
	return control(name, request, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip.AsSlice()) })
}

func up(name string) error {
	return control(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}

// control sends a request of netdevice(7).
func control(name string, request uint, set func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = set(req)
	}
	if err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, request, req)
}
