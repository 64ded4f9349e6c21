//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is what utime and stime of /proc/PID/stat count in: USER_HZ, which is 100 on every
// architecture that Go runs on (proc(5)).
const tick = 10 * time.Millisecond

// quantile is the smallest sample that at least the share q of all are not above (nearest rank).
// It sorts the samples.
func quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	rank := int(math.Ceil(q * float64(len(samples))))
	return samples[min(max(rank, 1), len(samples))-1]
}

func median(samples []time.Duration) time.Duration { return quantile(samples, 0.5) }

func middle(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	return samples[(len(samples)-1)/2]
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }

// usage is processor time of a process, and of its children that have ended and been waited for.
type usage struct{ self, children time.Duration }

func usageOf(pid int) (usage, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	return parseStat(raw)
}

func usagesOf(pids ...int) ([]usage, error) {
	out := make([]usage, len(pids))
	for i, pid := range pids {
		var err error
		if out[i], err = usageOf(pid); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseStat reads fields 14 to 17 of /proc/PID/stat (proc(5)). The name before them is in
// parentheses and may hold anything.
func parseStat(raw []byte) (usage, error) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return usage{}, fmt.Errorf("not a process's stat: %q", raw)
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 15 {
		return usage{}, fmt.Errorf("a process's stat with %d fields", len(fields)+2)
	}
	var v [4]time.Duration
	for i := range v {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("a process's stat: %w", err)
		}
		v[i] = time.Duration(n) * tick
	}
	return usage{self: v[0] + v[1], children: v[2] + v[3]}, nil
}

// treeUsage is processor time of a process and of all that descend from it.
func treeUsage(pid int) (time.Duration, error) {
	u, err := usageOf(pid)
	if err != nil {
		return 0, err
	}
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	sum := u.self + u.children
	for _, child := range children {
		more, _ := treeUsage(child) // it may have gone
		sum += more
	}
	return sum, nil
}

// pss is a process's share of memory in KiB.
func pss(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parsePSS(raw)
}

func parsePSS(raw []byte) (float64, error) {
	s := bufio.NewScanner(bytes.NewReader(raw))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 64)
		}
	}
	return 0, fmt.Errorf("smaps_rollup without Pss")
}

// treePSS is pss of a process and of all that descend from it.
func treePSS(pid int) (float64, error) {
	sum, err := pss(pid)
	if err != nil {
		return 0, err
	}
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children {
		more, _ := treePSS(child) // it may have gone
		sum += more
	}
	return sum, nil
}

// childrenOf lists the processes that a process has started and that have not been waited for.
func childrenOf(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, list := range lists {
		raw, _ := os.ReadFile(list) // the thread may have gone
		for _, child := range strings.Fields(string(raw)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
	}
	return out, nil
}
