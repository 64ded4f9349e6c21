package broker

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sega/audit/query"
	"sega/broker/api"
)

// parseEvents reads the parameters of RouteEvents.
func parseEvents(v url.Values, now time.Time) (q query.Query, follow bool, err error) {
	p := params{v: v}
	q = p.query(now)
	q.After = p.number(api.ParamAfter, -1, -1)
	q.Before = p.number(api.ParamBefore, 1, 0)
	q.Limit = int(p.number(api.ParamLimit, 0, 0))
	q.Newest, follow = p.flag(api.ParamNewest), p.flag(api.ParamFollow)
	if follow && (q.Newest || q.Before > 0 || q.Limit > 0) {
		p.fail("a stream that follows has no %s, %s or %s: it goes on with what comes", api.ParamNewest, api.ParamBefore, api.ParamLimit)
	}
	if follow && len(query.Screens(q.Where)) > 0 {
		p.fail("a stream that follows has no screen: in its query: a screen is searched when its session has ended, so new ones would never show")
	}
	return q, follow, p.done()
}

// parseCount reads the parameters of RouteCount. Without dimensions the count is one group.
func parseCount(v url.Values, now time.Time) (q query.Query, by []query.Dimension, err error) {
	p := params{v: v}
	q = p.query(now)
	for _, name := range strings.Split(p.text(api.ParamBy), ",") {
		d := query.Dimension(name)
		switch {
		case name == "" && p.text(api.ParamBy) == "":
			continue
		case !slices.Contains(query.Dimensions(), d):
			p.fail("events are not counted by %q, but by %s", printable(name, 32), dimensions())
		case slices.Contains(by, d):
			p.fail("%s is given twice in %s", name, api.ParamBy)
		}
		by = append(by, d)
	}
	return q, by, p.done()
}

func dimensions() string {
	var names []string
	for _, d := range query.Dimensions() {
		names = append(names, string(d))
	}
	return strings.Join(names, ", ")
}

// params reads query parameters, remembers the first error, and refuses what nobody has read.
type params struct {
	v    url.Values
	seen []string
	err  error
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = api.Errorf(api.KindInvalid, format, args...)
	}
}

// text returns a parameter; a second one of its name would be dropped without a word.
func (p *params) text(name string) string {
	p.seen = append(p.seen, name)
	if n := len(p.v[name]); n > 1 {
		p.fail("%s is given %d times", name, n)
	}
	return p.v.Get(name)
}

func (p *params) query(now time.Time) query.Query {
	q := query.Query{After: -1, Intents: p.flag(api.ParamIntents)}
	var err error
	if q.Where, err = query.Parse(p.text(api.ParamQuery), now); err != nil {
		p.fail("%s", printable(err.Error(), 1000))
	}
	return q
}

func (p *params) flag(name string) bool {
	text := p.text(name)
	if text != "" && text != "1" {
		p.fail("%s is 1 or left out", name)
	}
	return text == "1"
}

// number reads a parameter of at least least; absent stands for one that is left out.
func (p *params) number(name string, least, absent int64) int64 {
	text := p.text(name)
	if text == "" {
		return absent
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		p.fail("%s is a number of %d or more", name, least)
	}
	return n
}

func (p *params) done() error {
	for name := range p.v {
		if !slices.Contains(p.seen, name) {
			p.fail("there is no parameter %q here; what is asked for stands in %s", printable(name, 32), api.ParamQuery)
		}
	}
	return p.err
}
