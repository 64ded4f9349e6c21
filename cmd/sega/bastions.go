package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"time"

	"sega/broker/api"
)

// reachTime is for a bastion to answer, when there is another one to go to.
const reachTime = 2 * time.Second

// bastions lists those that the broker named, the first one first.
func bastions(c api.Configuration) []api.BastionAddress {
	if len(c.Bastions) == 0 { // a broker of before there were several
		return []api.BastionAddress{{Address: c.Bastion, Name: c.BastionName}}
	}
	return c.Bastions
}

// bastion returns the first that answers. Where there is one, and where none answers, ssh itself is to
// find out, and to say so.
func bastion(ctx context.Context, c api.Configuration) api.BastionAddress {
	all := bastions(c)
	for _, b := range all {
		if len(all) > 1 && reach(ctx, b.Address) == nil {
			return b
		}
	}
	return all[0]
}

// bannerTime are options that end a wait for a bastion which takes the connection and says nothing: for the connection, the banner and the
// key exchange (ssh_config(5), ConnectTimeout). Without one ssh waits for good. Where the person's own files have one it holds.
func bannerTime(ctx context.Context, ssh string, args []string) []string {
	out, err := exec.CommandContext(ctx, ssh, append([]string{"-G"}, args...)...).Output()
	if err != nil || !slices.Contains(strings.Split(strings.ReplaceAll(string(out), "\r", ""), "\n"), "connecttimeout none") {
		return nil // or ssh itself says what is wrong with its files
	}
	return []string{"-o", "ConnectTimeout=20"}
}

// reach asks whether a bastion takes new connections: one that drains answers no more, and one that is
// lost behind a load balancer says nothing.
func reach(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	first := make([]byte, len("SSH-"))
	if _, err := io.ReadFull(conn, first); err != nil {
		return err
	}
	if !bytes.Equal(first, []byte("SSH-")) {
		return errors.New("it does not speak SSH")
	}
	return nil
}

// sshBastions are the lines of ssh_config that choose a bastion: of several, each but the last is taken
// if it answers. Once one is, `host` is no longer the alias, so that the others are not asked.
func sshBastions(all []api.BastionAddress, self string) (choose, last string, err error) {
	var b strings.Builder
	for i, one := range all {
		host, port, err := net.SplitHostPort(one.Address)
		if err != nil {
			return "", "", errNoBastion
		}
		for _, word := range []string{host, port, one.Name} {
			if strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || strings.ContainsRune("\"'\\%$`", r) }) { // or the broker would write more than names
				return "", "", withKind(kindConfig, withHint(fmt.Errorf("the broker's bastion has a name that is none: %s", escape(word)), "ask whoever runs the broker to mend its configuration"))
			}
		}
		last = fmt.Sprintf("    HostName %s\n    Port %s\n    HostKeyAlias %s\n", host, port, one.Name)
		if i < len(all)-1 {
			fmt.Fprintf(&b, "Match originalhost sega-bastion host sega-bastion exec \"%s ssh --reach %s\"\n%s", self, quoteInConf(one.Address), last)
		}
	}
	return b.String(), last, nil
}
