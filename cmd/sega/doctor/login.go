package doctor

import (
	"context"
	"errors"
	"time"

	"sega/broker/api"
)

// secretsTime bounds the fetch of the key of the stored secrets.
const secretsTime = 4 * time.Second

// slow is how long the fetch of a key may take without being noticed.
const slow = time.Second

// keychain fetches the key of the stored secrets, and opens them.
func (x *exam) keychain(ctx context.Context) []Finding {
	backend, where := x.Secrets()
	if backend == "" {
		return one(good("%s", where))
	}
	if backend == "passphrase" {
		return one(good("%s; whoever is there is asked for it when it is needed", where))
	}
	_, err := x.session.get(ctx)
	if err != nil && !errors.Is(err, ErrNoLogin) {
		text, mend := x.Explain(err)
		if errors.Is(err, context.DeadlineExceeded) {
			text, mend = "it does not answer", "unlock the store; or move sega's secrets away and choose another one (SEGA_KEYRING_BACKEND): sega login"
		}
		return one(failing(mend, "%s (%s): %s", backend, where, text))
	}
	took := x.session.took // it is there: get has returned without ctx being over
	if took > slow {
		return one(warning("", "%s (%s): the key was fetched in %s, which every command without an agent waits for", backend, where, took.Round(time.Millisecond)))
	}
	return one(good("%s (%s): the key was fetched in %s", backend, where, took.Round(time.Microsecond)))
}

// askStatus asks the broker about the session.
func (x *exam) askStatus(ctx context.Context) (api.Status, error) {
	l, err := x.session.get(ctx)
	if err != nil {
		return api.Status{}, err
	}
	return l.Broker.Status(ctx)
}

// login says until when the person is logged in, and whether the broker still agrees.
func (x *exam) login(ctx context.Context) []Finding {
	l, err := x.session.get(ctx)
	if err != nil {
		return x.noLogin(err)
	}
	if b, err := x.broker.get(ctx); errors.Is(err, errNoBroker) || err == nil && b.origin != l.Origin {
		return one(failing("unset SEGA_BROKER, or run: sega login", "you are logged in to %s, and SEGA_BROKER names another broker", l.Origin))
	} else if err != nil {
		return one(unknown("%s at %s, until %s by what is stored here; the broker cannot be asked", l.Person, l.Origin, moment(l.NotAfter)))
	}
	if !x.Now().Before(l.NotAfter) {
		return one(warning("sega login", "the login of %s ended on %s", l.Person, moment(l.NotAfter)))
	}
	if !x.Now().Before(l.Expires) && l.Renewable {
		return one(good("%s until %s; the next command renews the session", l.Person, moment(l.NotAfter)))
	}
	s, err := x.status.get(ctx)
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "the broker does not take the session: %s", text))
	}
	switch {
	case !s.MFA:
		return one(warning("enrol a second factor at the identity provider, then: sega login", "%s until %s, without MFA: policies refuse most that way", l.Person, moment(s.NotAfter)))
	case !l.Renewable && s.Expires.Before(s.NotAfter):
		return one(warning("ask whoever runs the identity provider to allow refresh tokens for sega", "%s until %s: the session cannot be renewed", l.Person, moment(s.Expires)))
	}
	return one(good("%s, with MFA, until %s", l.Person, moment(s.NotAfter)))
}

func (x *exam) noLogin(err error) []Finding {
	text, mend := x.Explain(err)
	if errors.Is(err, ErrNoLogin) {
		return one(warning("sega login", "%s", text))
	}
	return one(Finding{State: Skip, Text: "the stored session cannot be read: " + text, Mend: mend})
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// roles asks which AWS roles policy gives.
func (x *exam) roles(ctx context.Context) []Finding {
	l, why := x.asker(ctx)
	if why != nil {
		return why
	}
	v, err := l.Broker.Roles(ctx)
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "the roles cannot be listed: %s", text))
	}
	allowed, because := 0, ""
	for _, r := range v.Roles {
		if r.Allowed {
			allowed++
		} else if because == "" {
			because = ": " + r.Name + " " + r.Why
		}
	}
	if allowed == 0 {
		return one(warning("sega roles --all", "policy gives you none of %d AWS roles%s", len(v.Roles), because))
	}
	return one(good("you may use %d of %d AWS roles", allowed, len(v.Roles)))
}

func (x *exam) askHosts(ctx context.Context) (api.Hosts, error) {
	l, err := x.session.get(ctx)
	if err != nil {
		return api.Hosts{}, err
	}
	return l.Broker.Hosts(ctx)
}

// hosts asks which hosts policy opens.
func (x *exam) hosts(ctx context.Context) []Finding {
	if _, why := x.asker(ctx); why != nil {
		return why
	}
	v, err := x.hostsOf.get(ctx)
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "the hosts cannot be listed: %s", text))
	}
	allowed, because := 0, ""
	for _, h := range v.Hosts {
		if h.Allowed {
			allowed++
		} else if because == "" {
			because = ": " + h.Name + " " + h.Why
		}
	}
	if allowed == 0 {
		return one(warning("sega hosts --all", "policy opens none of %d hosts for you%s", len(v.Hosts), because))
	}
	return one(good("you may open %d of %d hosts", allowed, len(v.Hosts)))
}

// asker is the session with which policy can be asked, or the finding of why it cannot.
func (x *exam) asker(ctx context.Context) (Login, []Finding) {
	l, err := x.session.get(ctx)
	if err != nil {
		return l, one(unknown("policy is asked with a session, and there is none"))
	}
	if b, err := x.broker.get(ctx); err != nil || b.origin != l.Origin {
		return l, notAsked(err)
	}
	if _, err := x.status.get(ctx); err != nil {
		return l, one(unknown("policy is asked with a session, and the broker does not take this one"))
	}
	return l, nil
}
