package bastion

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sega/broker/api"
)

// TestChannelsOfAMaster shares one connection of stock ssh (ControlMaster): the broker is asked for every
// channel, and what it no longer permits is refused over the old connection, whose running program goes on.
func TestChannelsOfAMaster(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	for name, form := range forms(currentLogin(t)) {
		t.Run(name, func(t *testing.T) {
			f.set(func() { f.reports, f.hops, f.onChannel = nil, nil, nil })
			o := w.openssh(t, f.credential(t))
			shared := append([]string{"-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", "ControlPath=" + filepath.Join(o.dir, "m")}, form...)
			ssh := func(command string) *exec.Cmd { return o.command(t.Context(), append(shared, command)...) }
			t.Cleanup(func() { _ = o.command(t.Context(), append([]string{"-O", "exit"}, shared...)...).Run() })
			long := ssh("cat")
			in, err := long.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := long.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := long.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = in.Close(); _ = long.Wait() })
			echoed := func(word string) {
				t.Helper()
				if _, err := io.WriteString(in, word); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(word))
				if _, err := io.ReadFull(out, got); err != nil || string(got) != word {
					t.Errorf("%q came back: %v", got, err)
				}
			}
			echoed("before")
			if got, err := ssh("echo second").Output(); err != nil || string(got) != "second\n" {
				t.Fatalf("%q, %v", got, err)
			}
			f.set(func() {
				f.onChannel = func(api.ChannelRequest) (api.ChannelGrant, error) {
					return api.ChannelGrant{}, api.Errorf(api.KindRevoked, "access was revoked").WithHint("ask the security staff")
				}
			})
			third := ssh("echo third")
			var errs strings.Builder
			third.Stderr = &errs
			got, err := third.Output()
			if err == nil || third.ProcessState.ExitCode() != exitRefused || len(got) != 0 || !strings.Contains(errs.String(), "access was revoked") || !strings.Contains(errs.String(), "security staff") {
				t.Errorf("%q, %v: %s", got, err, errs.String())
			}
			echoed("after")
			if len(f.hops) != 1 || len(f.find(kindCommand)) != 2 {
				t.Errorf("%d connections, %d programs", len(f.hops), len(f.find(kindCommand)))
			}
		})
	}
}

// TestChainsOfJumps: a host is no way to the next one, and one bastion none to another. ssh says why and
// ends; nothing is dialled.
func TestChainsOfJumps(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	touched := make(chan struct{}, 8)
	next := service(t, "tcp", "127.0.0.1:0", func(net.Conn) { touched <- struct{}{} })
	f.set(func() { f.inventory["web-2"] = testHost{address: next.Addr().String(), hostID: "host-web-2"} })
	f.onFront = func(r api.FrontRequest) error {
		if r.Host == "other-bastion" {
			return api.Errorf(api.KindDenied, "no host %q is known", r.Host)
		}
		return nil
	}
	w := start(t, f)
	login := currentLogin(t)
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"through a host":           {[]string{"-J", "bastion," + login + "@web-1", login + "@web-2", "true"}, "policy permits no forwarding"},
		"through another bastion":  {[]string{"-J", "bastion,other-bastion", login + "@web-1", "true"}, "no host"},
		"to the bastion by itself": {[]string{"-J", "bastion", login + "@" + bastionName, "true"}, "is the bastion itself"},
		"from a session onwards":   {[]string{"-W", "web-2:22", login + "%web-1@bastion"}, "policy permits no forwarding"},
	} {
		o := w.openssh(t, f.credential(t))
		o.logAt("INFO")
		got := o.run(nil, tc.args...)
		if got.code == 0 || !strings.Contains(got.stderr, tc.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(touched) > 0 {
		t.Error("somebody connected past the bastion")
	}
}

// TestIPv6Dial comes in and goes on over IPv6.
func TestIPv6Dial(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatalf("no IPv6: %v", err)
	}
	f := newFakeControl(t)
	host := f.startSSHD(t, "web-1", "host-web-1")
	six := service(t, "tcp", "[::1]:0", func(c net.Conn) {
		to, err := net.Dial("tcp", host.address)
		if err != nil {
			return
		}
		done := make(chan struct{})
		go func() { _, _ = io.Copy(to, c); _ = to.Close(); close(done) }()
		_, _ = io.Copy(c, to)
		_ = c.Close()
		<-done
	})
	f.set(func() { f.inventory["web-1"] = testHost{address: six.Addr().String(), hostID: host.hostID} })
	w := start(t, f, func(c *Config) { _ = c.Listener.Close(); c.Listener = l })
	for name, form := range forms(currentLogin(t)) {
		if got := w.openssh(t, f.credential(t)).run(nil, append(form, "echo six")...); got.stdout != "six\n" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, r := range f.hops {
		if r.Source != "::1" {
			t.Errorf("the broker is told %q", r.Source)
		}
	}
}
