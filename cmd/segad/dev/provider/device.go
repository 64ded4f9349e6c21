package provider

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// device is a device authorization (RFC 8628).
type device struct {
	userCode string
	scopes   []string
	expires  time.Time
	interval time.Duration
	polled   time.Time
	denied   bool
	approved *authentication
}

// addDevice stores a new device authorization and returns its device code.
func (g *grants) addDevice(scopes []string) (string, *device) {
	text := randomText(32)
	d := &device{userCode: newUserCode(), scopes: scopes, expires: g.cfg.Now().Add(g.cfg.DeviceTTL), interval: g.cfg.DeviceInterval}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, old := range g.devices {
		if g.cfg.Now().Sub(old.expires) > time.Hour {
			delete(g.devices, key)
		}
	}
	g.devices[hash(text)] = d
	return text, d
}

// newUserCode returns eight letters that make no words, as AAAA-AAAA (RFC 8628 §6.1).
func newUserCode() string {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	out := make([]byte, 0, 9)
	for b := make([]byte, 1); len(out) < cap(out); {
		if len(out) == 4 {
			out = append(out, '-')
		}
		rand.Read(b)
		if b[0] < 240 { // the largest multiple of 20: every letter is equally likely
			out = append(out, letters[b[0]%20])
		}
	}
	return string(out)
}

// byUserCode returns the live device with that code, however it was typed.
func (g *grants) byUserCode(typed string) (*device, bool) {
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '-' || r == ' ' {
				return -1
			}
			return r
		}, strings.ToUpper(s))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.devices {
		if plain(d.userCode) == plain(typed) && g.cfg.Now().Before(d.expires) && d.approved == nil && !d.denied {
			return d, true
		}
	}
	return nil, false
}

// decide records the person's decision, unless there is one or the code has expired.
func (g *grants) decide(d *device, a *authentication) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d.denied || d.approved != nil || !g.cfg.Now().Before(d.expires) {
		return false
	}
	d.approved, d.denied = a, a == nil
	return true
}

// poll answers one poll (RFC 8628 §3.5) and on approval spends the device code.
func (g *grants) poll(text string) (grant, *tokenError) {
	refuse := func(code, description string) (grant, *tokenError) {
		return grant{}, &tokenError{http.StatusBadRequest, code, description}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.devices[hash(text)]
	if !ok {
		return grant{}, invalidGrant("the device code is unknown")
	}
	now := g.cfg.Now()
	last := d.polled
	d.polled = now
	switch {
	case !now.Before(d.expires):
		return refuse("expired_token", "the device code has expired")
	case !last.IsZero() && now.Sub(last) < d.interval:
		d.interval += 5 * time.Second
		return refuse("slow_down", "polled faster than the interval")
	case d.denied:
		delete(g.devices, hash(text))
		return refuse("access_denied", "the person denied the device")
	case d.approved == nil:
		return refuse("authorization_pending", "the person has not decided yet")
	}
	delete(g.devices, hash(text))
	return *g.open(*d.approved, d.scopes, ""), nil
}

// deviceAuthorize serves the device authorization endpoint.
func (p *Provider) deviceAuthorize(w http.ResponseWriter, r *http.Request) {
	form, failure := p.clientForm(r, []string{"scope"}, nil)
	if failure != nil {
		p.fail(w, failure)
		return
	}
	scopes := strings.Fields(form.Get("scope"))
	if err := checkScopes(scopes); err != nil {
		p.fail(w, &tokenError{http.StatusBadRequest, "invalid_scope", err.Error()})
		return
	}
	text, d := p.grants.addDevice(scopes)
	page := p.cfg.Issuer + "/device"
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code": text, "user_code": d.userCode, "verification_uri": page,
		"verification_uri_complete": page + "?" + url.Values{"user_code": {d.userCode}}.Encode(),
		"expires_in":                int(p.cfg.DeviceTTL / time.Second), "interval": int(p.cfg.DeviceInterval / time.Second),
	})
}

func (p *Provider) tokenByDevice(w http.ResponseWriter, r *http.Request) {
	form, failure := p.clientForm(r, []string{"grant_type", "device_code"}, nil)
	if failure != nil {
		p.fail(w, failure)
		return
	}
	g, failure := p.grants.poll(form.Get("device_code"))
	if failure != nil {
		p.fail(w, failure)
		return
	}
	p.grantTokens(w, g, "")
}

// devicePage asks for the code. A code in the address is filled in, never submitted by itself.
func (p *Provider) devicePage(w http.ResponseWriter, r *http.Request) {
	p.page(w, http.StatusOK, userCodePage, view{UserCode: r.URL.Query().Get("user_code")})
}

// deviceCode takes the code and asks for a full login, whatever session the browser has.
func (p *Provider) deviceCode(w http.ResponseWriter, r *http.Request) {
	d, ok := p.grants.byUserCode(r.PostFormValue("user_code"))
	if !ok {
		p.page(w, http.StatusNotFound, userCodePage, view{UserCode: r.PostFormValue("user_code"), Error: "The code is wrong or has expired."})
		return
	}
	in := p.logins.add(w, r, login{device: d})
	p.page(w, http.StatusOK, passwordPage, view{Login: in.id})
}

// deviceApprove takes the person's decision.
func (p *Provider) deviceApprove(w http.ResponseWriter, r *http.Request) {
	in, ok := p.logins.take(r, stageApprove)
	if !ok {
		p.lost(w)
		return
	}
	var decision *authentication
	message := "The device was denied."
	switch r.PostFormValue("action") {
	case "approve":
		decision = &authentication{Subject: in.user.Subject, AMR: in.amr, Time: in.authenticated}
		message = "The device is approved. Go back to it; you may close this page."
	case "deny":
	default:
		p.lost(w)
		return
	}
	p.logins.end(in)
	if !p.grants.decide(in.device, decision) {
		p.page(w, http.StatusBadRequest, messagePage, view{Message: "The code has expired or was decided about already."})
		return
	}
	p.page(w, http.StatusOK, messagePage, view{Message: message})
}
