//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	connects   = 30
	strokes    = 2000            // of a round: twenty of them are beyond p99
	echoRounds = 9               // of which the middle one counts: p99 of one round varies by a tenth
	strokeTime = 5 * time.Second // for one keystroke's echo
)

// connect measures a connection, `true`, and its end: question, hop certificate, recording and
// events included.
func (b *bench) connect() error {
	_, l, err := b.lab()
	if err != nil {
		return err
	}
	walls, err := b.time(connects, l.command(viaBastion, "true"), l.command(viaJump, "true"), l.command(direct, "true"))
	if err != nil {
		return err
	}
	jumps, err := b.time(connects/3, l.command(viaBastionJump, "true"))
	if err != nil {
		return err
	}
	var p50, p99 []float64
	for _, w := range append(walls, jumps...) {
		p50, p99 = append(p50, millis(median(w))), append(p99, millis(quantile(w, 0.99)))
	}
	b.add(result("bastion.connect", p50[0], "ms").against(jumpPeer, p50[1]).atMost(0.9*p50[1]),
		result("bastion.connect.p99", p99[0], "ms").against(jumpPeer, p99[1]),
		result("bastion.connect.to-direct", p50[0], "ms").against(directPeer, p50[2]),
		result("bastion.connect.jump", p50[3], "ms").against(jumpPeer, p50[1]))
	return nil
}

// echo measures a keystroke's way to the host's terminal and back. Ours and the peer's strokes
// take turns, and each is first as often as the other, so that what else the machine does falls on both.
func (b *bench) echo() error {
	_, l, err := b.lab()
	if err != nil {
		return err
	}
	ours, err := b.openTerminal(l.command(viaBastion, "-tt"))
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := b.openTerminal(l.command(viaJump, "-tt"))
	if err != nil {
		return err
	}
	defer peer.close()
	both := [2]*terminal{ours, peer}
	if _, err := strike(both, warmUps); err != nil {
		return err
	}
	var p50, p99 [2][]float64
	for range echoRounds {
		took, err := strike(both, strokes)
		if err != nil {
			return err
		}
		for j, t := range took {
			p50[j], p99[j] = append(p50[j], millis(median(t))), append(p99[j], millis(quantile(t, 0.99)))
		}
	}
	peer99 := middle(p99[1])
	b.add(result("bastion.echo", middle(p99[0]), "ms").against(jumpPeer, peer99).atMost(peer99),
		result("bastion.echo.p50", middle(p50[0]), "ms").against(jumpPeer, middle(p50[1])))
	return nil
}

// strike types at both terminals, which take turns, and returns what each keystroke took.
func strike(both [2]*terminal, times int) (took [2][]time.Duration, err error) {
	for i := range times {
		for k := range both {
			j := (i + k) % len(both)
			d, err := both[j].stroke(byte('a' + i%26))
			if err != nil {
				return took, err
			}
			took[j] = append(took[j], d)
		}
	}
	return took, nil
}

// terminal is an ssh with a terminal on the host that echoes what is typed.
type terminal struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     io.WriteCloser
	out    *bufio.Reader
}

func (b *bench) openTerminal(p program) (*terminal, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	t := &terminal{cmd: exec.CommandContext(ctx, p.argv[0], append(p.argv[1:], "stty raw -echo; echo ready; exec cat")...), cancel: cancel}
	t.cmd.Env = p.env
	var err error
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		line, err := t.out.ReadString('\n')
		if err != nil {
			t.close()
			return nil, fmt.Errorf("%v: no terminal: %w", p.argv, err)
		}
		if strings.TrimSpace(line) == "ready" {
			return t, nil
		}
	}
}

// stroke types a byte and waits for it to come back.
func (t *terminal) stroke(key byte) (time.Duration, error) {
	giveUp := time.AfterFunc(strokeTime, t.cancel)
	defer giveUp.Stop()
	from := time.Now()
	if _, err := t.in.Write([]byte{key}); err != nil {
		return 0, err
	}
	got, err := t.out.ReadByte()
	took := time.Since(from)
	if err == nil && got != key {
		err = fmt.Errorf("typed %q, and %q came back", key, got)
	}
	return took, err
}

// close kills the client; the program on the host ends with its terminal.
func (t *terminal) close() {
	t.cancel()
	_, _ = io.Copy(io.Discard, t.out)
	_ = t.cmd.Wait()
}
