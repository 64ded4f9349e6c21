package doctor

import (
	"context"
	"fmt"
	"slices"

	"sega/broker/api"
	"sega/broker/client"
)

// bastions says whether somebody answers where SSH sessions begin. One that does not is no failure while
// another one does: that is what several are for.
func (x *exam) bastions(ctx context.Context) []Finding {
	if x.Pinned == nil {
		return one(unknown("bastions are known after the first login"))
	}
	if len(x.Bastions) == 0 {
		return one(unknown("the broker names no bastion"))
	}
	probe, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	answers := make([]chan error, len(x.Bastions))
	for i, b := range x.Bastions {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- x.Reach(probe, b.Address) }()
	}
	var silent []string
	for i, b := range x.Bastions {
		if err := <-answers[i]; err != nil {
			silent = append(silent, fmt.Sprintf("%s at %s (%s)", b.Name, b.Address, client.Reason(err)))
		}
	}
	switch all := len(x.Bastions); {
	case len(silent) == 0 && all == 1:
		return one(good("the bastion %s answers at %s", x.Bastions[0].Name, x.Bastions[0].Address))
	case len(silent) == 0:
		return one(good("%d of %d bastions answer", all, all))
	case len(silent) == all && x.opensNone(ctx):
		return one(warning("", "no bastion answers, and policy opens no host for you: %s", shortened(silent)))
	case len(silent) == all:
		return one(failing("check the network; where that is well, tell whoever runs the bastions", "no bastion answers: %s", shortened(silent)))
	default:
		return one(warning("tell whoever runs the bastions", "%d of %d bastions answer, and not: %s", all-len(silent), all, shortened(silent)))
	}
}

// opensNone reports whether policy is known to open no host: then a bastion is not missed.
func (x *exam) opensNone(ctx context.Context) bool {
	if _, why := x.asker(ctx); why != nil {
		return false
	}
	v, err := x.hostsOf.get(ctx)
	return err == nil && !slices.ContainsFunc(v.Hosts, func(h api.Host) bool { return h.Allowed })
}
