//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const (
	mebibyte     = 1 << 20
	bulkMiB      = 1024
	bulkTurns    = 3                // at most
	bulkTime     = 30 * time.Second // in which a last turn may begin
	cpuUnit      = "CPU s/GiB"
	transferTime = time.Minute
	archiveTime  = 30 * time.Second

	// of the bare proxy's rate (docs/decisions/bulk-is-held-against-the-bare-proxy.md)
	bareShare     = 0.9
	recordedShare = 0.8
)

// transfer moves bulkMiB on a route.
type transfer func(ctx context.Context, p program) (trip, error)

// trip is one transfer.
type trip struct {
	took   time.Duration // from the first byte to the last
	client time.Duration // processor time of the person's ssh, and of the one that it has started for a jump
}

// middleman is the machine between person and host.
type middleman struct {
	route  string
	usage  func() (time.Duration, error) // processor time
	settle func() error                  // returns when all work of a session has been done
}

// way is a direction and a content.
type way struct {
	name string
	move transfer
	more float64 // CPU s a GiB that the bastion may take beyond the bare proxy
}

// ways are those that are asked for.
func (b *bench) ways() (out []way, err error) {
	noise := make([]byte, mebibyte)
	rand.Read(noise)
	noiseFile, textFile := filepath.Join(b.dir, "noise"), filepath.Join(b.dir, "text")
	if err := errors.Join(fillFile(noiseFile, noise), fillFile(textFile, logText())); err != nil {
		return nil, err
	}
	for _, w := range []way{
		{"bastion.bulk.down", download(noiseFile), 2},
		{"bastion.bulk.up", upload(noise), 2},
		{"bastion.bulk.text", download(textFile), 4},
	} {
		if wanted(w.name, b.only) {
			out = append(out, w)
		}
	}
	return out, nil
}

// bulk measures bytes in bulk, recorded, both ways; and not recorded, against the least that a proxy does.
//
// All routes have one cipher and one key exchange on every leg (sshconfig.go), the same stock ssh and the same sshd at
// the end, no compression, and the same bytes, which the host reads from memory. Of several turns the median counts, and
// each turn begins with another route. What differs is what the routes are:
//
//   - Client, middleman, host and, for us, the disk share the processors, so it is the sum of their work that decides
//     the rate on a small machine; each on a machine of its own, the slowest of them would.
//   - A client of ssh -J encrypts twice, and its jump host passes on what it cannot read. Our client encrypts once, and
//     the bastion twice more, besides recording: cpu.client and cpu.to-jump show both sides.
//   - The bare proxy copies 32 KiB at a time and writes each packet to the socket as x/crypto/ssh hands it over.
//   - A recording is in the bucket and synced, and spool and bucket are emptied, before the next route's turn: nothing
//     of ours is left to be written while a peer is measured. That work counts as the bastion's processor time
//     (cpu.archive) and not in its rate.
func (b *bench) bulk() error {
	e, l, err := b.lab()
	if err != nil {
		return err
	}
	ways, err := b.ways()
	if err != nil {
		return err
	}
	for _, way := range ways {
		m, err := b.compare(b.middlemen(e, l), way.move)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		sega, jump, bare := m[viaBastion], m[viaJump], m[viaBare]
		b.add(result(way.name, middle(sega.rates), "MiB/s").against(barePeer, middle(bare.rates)).atLeast(recordedShare*middle(bare.rates)),
			result(way.name+".to-jump", middle(sega.rates), "MiB/s").against(jumpPeer, middle(jump.rates)),
			result(way.name+".cpu", middle(sega.cpus), cpuUnit).against(barePeer, middle(bare.cpus)).atMost(middle(bare.cpus)+way.more),
			result(way.name+".cpu.client", middle(sega.ends), cpuUnit).against(jumpPeer, middle(jump.ends)),
			result(way.name+".cpu.to-jump", middle(sega.cpus), cpuUnit).against(jumpPeer+" (sshd)", middle(jump.cpus)),
			result(way.name+".cpu.archive", middle(sega.tails), cpuUnit))
	}
	return b.unrecorded(ways)
}

// unrecorded measures the same ways through a bastion that is built to record no bytes, in an environment of
// its own.
func (b *bench) unrecorded(ways []way) (err error) {
	u := &bench{ctx: b.ctx, talk: b.talk, tags: "sega_bench", dir: filepath.Join(b.dir, "unrecorded")}
	if err := os.Mkdir(u.dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	e, l, err := u.lab()
	if err != nil {
		return err
	}
	for _, way := range ways {
		m, err := u.compare(u.middlemen(e, l), way.move)
		if err != nil {
			return fmt.Errorf("%s, not recorded: %w", way.name, err)
		}
		sega, jump, bare := m[viaBastion], m[viaJump], m[viaBare]
		name := way.name + ".unrecorded"
		b.add(result(name, middle(sega.rates), "MiB/s").against(barePeer, middle(bare.rates)).atLeast(bareShare*middle(bare.rates)),
			result(name+".to-jump", middle(sega.rates), "MiB/s").against(jumpPeer, middle(jump.rates)),
			result(name+".cpu", middle(sega.cpus), cpuUnit).against(barePeer, middle(bare.cpus)))
	}
	return nil
}

func (b *bench) middlemen(e *environment, l *sshLab) []middleman {
	bastion, jump, bare := e.PIDs["bastion"], l.jump.Process.Pid, l.bare.Process.Pid
	return []middleman{
		{viaBastion, func() (time.Duration, error) { u, err := usageOf(bastion); return u.self, err }, func() error { return b.archived(e) }},
		// sshd's processes of a connection count as its children when they have ended.
		{viaJump, func() (time.Duration, error) { u, err := usageOf(jump); return u.self + u.children, err }, func() error { return b.childless(jump) }},
		{viaBare, func() (time.Duration, error) { u, err := usageOf(bare); return u.self, err }, func() error { return nil }},
	}
}

// moved is what a route has shown, turn by turn.
type moved struct {
	rates []float64 // MiB/s
	cpus  []float64 // CPU s/GiB, of the middleman
	ends  []float64 // and of the person's own client
	tails []float64 // what of them came after the transfer
}

// compare lets the routes take turns for some time.
func (b *bench) compare(between []middleman, move transfer) (map[string]*moved, error) {
	out := map[string]*moved{}
	for _, m := range between {
		out[m.route] = &moved{}
	}
	from := time.Now()
	for turn := 0; turn < bulkTurns && time.Since(from) < bulkTime; turn++ {
		first := turn % len(between)
		for _, m := range slices.Concat(between[first:], between[:first]) {
			if err := out[m.route].turn(b.ctx, m, b.ssh.command(m.route), move); err != nil {
				return nil, fmt.Errorf("%s: %w", m.route, err)
			}
		}
	}
	return out, nil
}

func (v *moved) turn(ctx context.Context, m middleman, p program, move transfer) error {
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	before, err := m.usage()
	if err != nil {
		return err
	}
	t, err := move(ctx, p)
	if err != nil {
		return err
	}
	through, err := m.usage()
	if err != nil {
		return err
	}
	if err := m.settle(); err != nil {
		return err
	}
	after, err := m.usage()
	v.rates = append(v.rates, bulkMiB/t.took.Seconds())
	v.ends = append(v.ends, t.client.Seconds()*1024/bulkMiB)
	v.cpus = append(v.cpus, (after-before).Seconds()*1024/bulkMiB)
	v.tails = append(v.tails, (after-through).Seconds()*1024/bulkMiB)
	return err
}

// archived waits until what was recorded is in the bucket, which is work of the session too, and
// makes room for the next.
func (b *bench) archived(e *environment) error {
	err := await(b.ctx, archiveTime, "the recordings are not in the bucket", func() error {
		left, err := os.ReadDir(filepath.Join(e.data, "bastion", "spool"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d files are in the spool", len(left))
		}
		return err
	})
	if err != nil {
		return err
	}
	done, err := filepath.Glob(filepath.Join(e.data, "recordings", "ssh_*"))
	for _, path := range done {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// childless waits until all that a process has started has ended.
func (b *bench) childless(pid int) error {
	return await(b.ctx, archiveTime, "the jump host's connections do not end", func() error {
		children, err := childrenOf(pid)
		if err == nil && len(children) > 0 {
			err = fmt.Errorf("%d processes run", len(children))
		}
		return err
	})
}

// fillFile writes bulkMiB of a block over and over.
func fillFile(path string, block []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for range bulkMiB * mebibyte / len(block) {
		if _, err := f.Write(block); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// logText is a mebibyte such as servers log.
func logText() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < mebibyte; i++ {
		fmt.Fprintf(&b, "2026-03-04T05:06:%02d.%06dZ level=info msg=\"request answered\" route=/v1/orders/%d status=200 took=%dµs peer=10.1.%d.%d\n", i%60, i*7919%1000000, i*104729%100000, i*31%9000, i%256, i*17%256)
	}
	return b.Bytes()[:mebibyte]
}

// download reads a file of the host; the program lives on for long enough to look at the client.
func download(path string) transfer {
	return func(ctx context.Context, p program) (t trip, err error) {
		c := exec.CommandContext(ctx, p.argv[0], append(p.argv[1:], "cat "+path+"; sleep 0.2")...)
		c.Env, c.Stderr = p.env, os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			return t, err
		}
		if err := c.Start(); err != nil {
			return t, err
		}
		buf := make([]byte, mebibyte)
		n, err := out.Read(buf)
		from := time.Now()
		rest, copyErr := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(out, bulkMiB*mebibyte-int64(n)), buf)
		t.took = time.Since(from)
		if copyErr == nil {
			t.client, copyErr = treeUsage(c.Process.Pid) // while both clients live: the one of the jump is waited for by nobody
		}
		more, drainErr := io.Copy(io.Discard, out)
		err = errors.Join(err, copyErr, drainErr, c.Wait())
		if got := int64(n) + rest + more; err == nil && got != bulkMiB*mebibyte {
			err = fmt.Errorf("%d bytes came", got)
		}
		return t, err
	}
}

// upload writes a block over and over to a program on the host that says when it is ready and when
// it has it all, and lives on for long enough to look at the client.
func upload(block []byte) transfer {
	return func(ctx context.Context, p program) (t trip, err error) {
		c := exec.CommandContext(ctx, p.argv[0], append(p.argv[1:], "echo r; wc -c; sleep 0.2")...)
		c.Env, c.Stderr = p.env, os.Stderr
		in, err := c.StdinPipe()
		if err != nil {
			return t, err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return t, err
		}
		if err := c.Start(); err != nil {
			return t, err
		}
		var ready [2]byte
		_, err = io.ReadFull(out, ready[:])
		from := time.Now()
		for range bulkMiB * mebibyte / len(block) {
			if err == nil {
				_, err = in.Write(block)
			}
		}
		err = errors.Join(err, in.Close())
		var got int
		if _, scanErr := fmt.Fscan(out, &got); scanErr != nil || got != bulkMiB*mebibyte {
			err = errors.Join(err, scanErr, fmt.Errorf("%d bytes arrived", got))
		}
		t.took = time.Since(from)
		if err == nil {
			t.client, err = treeUsage(c.Process.Pid)
		}
		return t, errors.Join(err, c.Wait())
	}
}
