//go:build linux

package host

import (
	"os/user"
	"strconv"
	"sync"
)

// How many are answered at once. Anybody on the host may connect, and sshd must get its answer whoever does.
const (
	maxReserved = 1024 // of root, and of whom sshd asks as: each login makes two
	maxOthers   = 64   // of all others together
	maxOther    = 8    // of one
)

// places are those who are answered now, by user.
type places struct {
	mu     sync.Mutex
	by     map[int]int
	others int
}

// take gives a user a place, or refuses: nobody waits, for those behind him would, too.
func (p *places) take(uid int, reserved bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reserved && p.by[uid] >= maxReserved || !reserved && (p.by[uid] >= maxOther || p.others >= maxOthers) {
		return false
	}
	if p.by == nil {
		p.by = map[int]int{}
	}
	p.by[uid]++
	if !reserved {
		p.others++
	}
	return true
}

// leave gives back what a user took, under the same word on whether it was reserved.
func (p *places) leave(uid int, reserved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by[uid]--; p.by[uid] == 0 {
		delete(p.by, uid)
	}
	if !reserved {
		p.others--
	}
}

// asker is whom sshd asks as: looked up until the system knows him.
type asker struct {
	mu  sync.Mutex
	uid int // 0: not known yet
}

// reserved reports whether a user has places of his own, and may have the daemon ask the broker: root, and whom sshd asks as.
func (d *Daemon) reserved(uid int) bool {
	if uid == 0 {
		return true
	}
	d.asker.mu.Lock()
	defer d.asker.mu.Unlock()
	if d.asker.uid == 0 {
		u, err := user.Lookup(d.cfg.User)
		if err != nil {
			return false
		}
		if d.asker.uid, err = strconv.Atoi(u.Uid); err != nil {
			return false
		}
	}
	return uid == d.asker.uid
}
