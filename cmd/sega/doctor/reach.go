package doctor

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"sega/broker/api"
)

// reach says whether the broker answers, how fast, and over what.
func (x *exam) reach(ctx context.Context) []Finding {
	b, err := x.broker.get(ctx)
	var bad brokerError
	switch {
	case errors.Is(err, errNoBroker):
		_, mend := x.Explain(err)
		return one(warning(mend, "no broker is known yet"))
	case errors.As(err, &bad):
		return one(failing(bad.mend, "%s", bad.text))
	case err != nil:
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	}
	version := "no TLS"
	if b.tls != nil {
		version = tls.VersionName(b.tls.Version)
	}
	return one(good("%s answers in %s over %s, %s; its certificate is issued by %s", b.origin, b.took.Round(time.Millisecond), version, b.proto, b.issuer()))
}

// notAsked is the finding of what could not be looked at because the broker could not be asked.
func notAsked(err error) []Finding {
	if errors.Is(err, errNoBroker) {
		return one(unknown("no broker is known yet"))
	}
	return one(unknown("the broker cannot be asked"))
}

// ready asks whether the broker can grant anything.
func (x *exam) ready(ctx context.Context) []Finding {
	b, err := x.broker.get(ctx)
	if err != nil {
		return notAsked(err)
	}
	rt, err := x.Transport()
	if err != nil {
		return notAsked(err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	e, err := ask(ctx, rt, x.Now, b.origin+api.RouteReady)
	if err != nil {
		return one(failing("try again; if it stays so, tell the broker's operators", "the broker does not say whether it is ready: %s", x.unreachable(b.origin, err)))
	}
	if e.status != http.StatusOK {
		return one(failing("tell the broker's operators: it issues nothing", "the broker is %s", firstLine(string(e.body), "not ready")))
	}
	return one(good("the broker can issue credentials and certificates"))
}

func firstLine(s, otherwise string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if line == "" || len(line) > 500 {
		return otherwise
	}
	return line
}

// log holds the checkpoint that came with the broker's answer against the one that is remembered.
func (x *exam) log(ctx context.Context) []Finding {
	b, err := x.broker.get(ctx)
	if err != nil {
		return notAsked(err)
	}
	if x.Observe == nil {
		return one(unknown("no audit log is pinned yet: that happens with the first login"))
	}
	if x.Pinned != nil && x.Pinned.Origin == b.origin && x.Pinned.LogKey != b.config.LogKey {
		return one(failing("ask the security staff; if it was changed on purpose: sega login --accept-new-log", "the key of the broker's audit log is another than at your last login"))
	}
	note, err := base64.StdEncoding.DecodeString(b.header.Get(api.HeaderCheckpoint))
	if err != nil || len(note) == 0 {
		return one(failing("check any proxy between here and the broker", "the broker's answer came without a checkpoint of its audit log"))
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	size, err := x.Observe(ctx, note)
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "the audit log does not continue what this machine has seen: %s", text))
	}
	return one(good("the audit log of %d events continues what this machine has seen", size))
}

// Signatures of AWS are refused when they are off by more than five minutes; TLS and logins suffer later.
// Source: AWS Signature Version 4, "RequestTimeTooSkewed".
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

// clock compares this machine's clock with those of the broker and of the identity provider.
func (x *exam) clock(ctx context.Context) []Finding {
	var found []Finding
	var seen []string
	if b, err := x.broker.get(ctx); err == nil && !b.date.IsZero() {
		found, seen = append(found, skewed("the broker", b.exchange)...), append(seen, "the broker")
	}
	if p, err := x.idp.get(ctx); err == nil && !p.seen.date.IsZero() {
		found, seen = append(found, skewed("the identity provider", p.seen)...), append(seen, "the identity provider")
	}
	if len(seen) == 0 {
		return one(unknown("neither the broker nor the identity provider says what time it is"))
	}
	return orGood(found, "this machine's clock agrees with %s", strings.Join(seen, " and "))
}

func skewed(whose string, e exchange) []Finding {
	// The header has whole seconds: half of one is added for the mean.
	off := e.local.Sub(e.date.Add(time.Second / 2)).Round(time.Second)
	way := "ahead of"
	if off < 0 {
		off, way = -off, "behind"
	}
	const mend = "set the clock, for example: timedatectl set-ntp true"
	switch {
	case off > clockFail:
		return one(failing(mend, "this machine's clock is %s %s %s: AWS refuses what is signed with it", off, way, whose))
	case off > clockWarn:
		return one(warning(mend, "this machine's clock is %s %s %s", off, way, whose))
	}
	return nil
}
