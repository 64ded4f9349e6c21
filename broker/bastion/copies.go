package bastion

import (
	"sega/broker/api"
	"sega/broker/bastion/scp"
)

// copies follows a channel whose program is the far end of `scp -O`. Unlike files it only looks on: the
// bytes flow like any command's, read, recorded, reported, forwarded.
type copies struct {
	follower *scp.Follower
	reports  *fileReports
}

// followCopy has what goes through the channel taken for scp's old protocol, where the command says so
// and nothing flows yet.
func (c *channel) followCopy(command string) {
	follower := scp.New(command)
	c.mu.Lock()
	defer c.mu.Unlock()
	if follower != nil && !c.began {
		c.copies = &copies{follower: follower, reports: newFileReports(c, api.ProtocolSCP)}
	}
}

// copying returns what follows the channel's copies, or nil.
func (c *channel) copying() *copies {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copies
}

// fromClient takes bytes of the person's that are recorded and about to go on, which they may not where
// it returns false.
func (v *copies) fromClient(b []byte) bool { return v.reports.put(v.follower.Client(b)) }

// fromHost is fromClient for the other direction.
func (v *copies) fromHost(b []byte) bool { return v.reports.put(v.follower.Host(b)) }

// end reports what has found no end of its own. Nothing flows any more.
func (v *copies) end() {
	if v != nil {
		v.reports.put(v.follower.End())
	}
}
