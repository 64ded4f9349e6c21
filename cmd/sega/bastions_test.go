package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// saying is an address at which every connection reads a line; with "" it is closed at once.
func saying(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, line)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// frozen is an address at which the system takes connections, and nobody says a word.
func frozen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestBastionThatAnswers: the first of the list that speaks SSH is taken; where none does, the first is,
// so that ssh says what is wrong.
func TestBastionThatAnswers(t *testing.T) {
	good, other := saying(t, "SSH-2.0-sega\r\n"), saying(t, "SSH-2.0-sega\r\n")
	closed, web, silent := closedAddress(t), saying(t, "HTTP/1.1 400\r\n"), saying(t, "")
	for name, c := range map[string]struct {
		list []string
		want string
	}{
		"the first":            {[]string{good, other}, good},
		"the first is closed":  {[]string{closed, good}, good},
		"it is something else": {[]string{web, good}, good},
		"it says nothing":      {[]string{silent, closed, good}, good},
		"the first is frozen":  {[]string{frozen(t), good}, good},
		"none":                 {[]string{closed, web}, closed},
		"there is but one":     {[]string{closed}, closed},
	} {
		t.Run(name, func(t *testing.T) {
			conf := api.Configuration{Bastion: "ignored:1", BastionName: "b"}
			for _, a := range c.list {
				conf.Bastions = append(conf.Bastions, api.BastionAddress{Address: a, Name: "b-" + a})
			}
			if diff := cmp.Diff(api.BastionAddress{Address: c.want, Name: "b-" + c.want}, bastion(t.Context(), conf)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := bastion(t.Context(), api.Configuration{Bastion: "b:22", BastionName: "b"}); got != (api.BastionAddress{Address: "b:22", Name: "b"}) {
		t.Errorf("of an older broker: %+v", got)
	}
}

// TestSSHBlockChooses has OpenSSH itself read the block: it takes the first bastion that answers, and
// asks no further.
func TestSSHBlockChooses(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("skipped: ssh is not installed")
	}
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	probe := filepath.Join(dir, "a probe") // takes the place of sega: what is up stands in its folder
	script := "#!/bin/sh\necho \"$3\" >>'" + asked + "'\ntest -e '" + dir + "'/\"$3\"\n"
	if err := os.WriteFile(probe, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	all := []api.BastionAddress{{Address: "b1.example:22", Name: "b1"}, {Address: "[2001:db8::2]:2222", Name: "b2"}, {Address: "b3.example:22", Name: "b3"}}
	choose, last, err := sshBastions(all, quoteInConf(probe))
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "config")
	if err := os.WriteFile(conf, []byte(choose+"Match originalhost sega-bastion\n"+last+"    User sega\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		up    string
		want  string
		asked string
	}{
		{"", "b3.example 22 b3", "b1.example:22\n[2001:db8::2]:2222\n"},
		{"[2001:db8::2]:2222", "2001:db8::2 2222 b2", "b1.example:22\n[2001:db8::2]:2222\n"},
		{"b1.example:22", "b1.example 22 b1", "b1.example:22\n"},
	} {
		_ = os.Remove(asked)
		if c.up != "" {
			if err := os.WriteFile(filepath.Join(dir, c.up), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(ssh, "-G", "-F", conf, "sega-bastion").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			got[key] = value
		}
		list, _ := os.ReadFile(asked)
		if chosen := got["hostname"] + " " + got["port"] + " " + got["hostkeyalias"]; chosen != c.want || string(list) != c.asked {
			t.Errorf("with %q up: chose %q, asked %q", c.up, chosen, list)
		}
	}
}

// TestBastionsAreNames: a broker's configuration writes names into ssh_config, and nothing else.
func TestBastionsAreNames(t *testing.T) {
	for _, b := range []api.BastionAddress{
		{Address: "b1\n  ProxyCommand x:22", Name: "b"}, {Address: "b1:22", Name: "b\nMatch all"}, {Address: "$(x):22", Name: "b"},
		{Address: "b1:22", Name: "`x`"}, {Address: "b1:2 2", Name: "b"}, {Address: "b%h:22", Name: "b"}, {Address: "b1", Name: "b"},
	} {
		if choose, last, err := sshBastions([]api.BastionAddress{b, {Address: "ok:22", Name: "ok"}}, "sega"); err == nil {
			t.Errorf("%+v became\n%s%s", b, choose, last)
		}
	}
}

// TestBannerTime: a wait for a bastion that says nothing has an end, that of the person's own files where they have one.
func TestBannerTime(t *testing.T) {
	path, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal("the OpenSSH client is needed")
	}
	for name, c := range map[string]struct {
		config string
		want   string
	}{"none": {"", "connecttimeout 20\n"}, "the person's own": {"Host *\n  ConnectTimeout 3\n", "connecttimeout 3\n"}} {
		t.Run(name, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(conf, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"-F", conf, "-p", "2222", "-l", "deploy+web-1", "--", "bastion.example"}
			out, err := exec.Command(path, slices.Concat([]string{"-G"}, bannerTime(t.Context(), path, args), args)...).Output()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
	broken := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(broken, []byte("Nonsense yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := bannerTime(t.Context(), path, []string{"-F", broken, "--", "x"}); got != nil {
		t.Errorf("of files that ssh does not take: %q", got)
	}
}

// TestSilentBastion: the option ends ssh's wait for a banner, and not for the connection alone.
func TestSilentBastion(t *testing.T) {
	host, port, err := net.SplitHostPort(frozen(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-o", "ConnectTimeout=1", "-p", port, "--", host).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "timed out") {
		t.Errorf("%v:\n%s", err, out)
	}
}
