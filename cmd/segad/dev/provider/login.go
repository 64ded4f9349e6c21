package provider

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	loginTTL   = 10 * time.Minute
	sessionTTL = 12 * time.Hour
)

// stage is the form that a login waits for.
type stage int

const (
	stagePassword stage = iota
	stageTOTP
	stageApprove
)

// login is a login in progress: on behalf of an authorization request, or of a device.
type login struct {
	id      string
	browser string // value of the cookie of the browser that began it
	expires time.Time
	stage   stage
	request authRequest
	device  *device // nil for an authorization request
	user    User
	amr     []string

	authenticated time.Time
}

// authentication is who has proved to be who, how and when.
type authentication struct {
	Subject string
	AMR     []string
	Time    time.Time
}

// logins holds logins in progress and the IdP's own sessions. Both end with the process.
type logins struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows, and the logins' fields
	pending  map[string]*login
	sessions map[string]authentication
}

func newLogins(now func() time.Time) *logins {
	return &logins{now: now, pending: map[string]*login{}, sessions: map[string]authentication{}}
}

const (
	cookieBrowser = "idp_browser"
	cookieSession = "idp_session"
)

// add stores a new login of the browser that sends r, and gives that browser its cookie.
func (l *logins) add(w http.ResponseWriter, r *http.Request, in login) login {
	in.id, in.expires = randomText(18), l.now().Add(loginTTL)
	if c, err := r.Cookie(cookieBrowser); err == nil && c.Value != "" {
		in.browser = c.Value
	} else {
		in.browser = randomText(18)
		setCookie(w, cookieBrowser, in.browser)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, old := range l.pending {
		if !l.now().Before(old.expires) {
			delete(l.pending, id)
		}
	}
	l.pending[in.id] = &in
	return in
}

// take returns the login that a posted form belongs to, if it waits for that form, and the form
// comes from the browser that began it.
func (l *logins) take(r *http.Request, want stage) (login, bool) {
	cookie, err := r.Cookie(cookieBrowser)
	if err != nil {
		return login{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	in, ok := l.pending[r.PostFormValue("login")]
	if !ok || in.stage != want || !l.now().Before(in.expires) ||
		subtle.ConstantTimeCompare([]byte(in.browser), []byte(cookie.Value)) != 1 {
		return login{}, false
	}
	return *in, true
}

// put stores a login that has moved on.
func (l *logins) put(in login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[in.id] = &in
}

func (l *logins) end(in login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, in.id)
}

// remember starts an IdP session.
func (l *logins) remember(w http.ResponseWriter, a authentication) {
	id := randomText(24)
	setCookie(w, cookieSession, id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[id] = a
}

// session returns the live IdP session of the browser that sends r.
func (l *logins) session(r *http.Request) (authentication, bool) {
	c, err := r.Cookie(cookieSession)
	if err != nil {
		return authentication{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.sessions[c.Value]
	return a, ok && l.now().Sub(a.Time) < sessionTTL
}

func setCookie(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// begin decides whether the IdP session is enough, and else shows the password page.
func (p *Provider) begin(w http.ResponseWriter, r *http.Request, req authRequest) {
	if a, ok := p.logins.session(r); ok && p.suffices(a, req) {
		p.issueCode(w, r, req, a)
		return
	}
	if req.prompt == "none" {
		p.redirectBack(w, r, req, url.Values{"error": {"login_required"}, "error_description": {"there is no session that suffices"}})
		return
	}
	in := p.logins.add(w, r, login{request: req})
	p.page(w, http.StatusOK, passwordPage, view{Login: in.id, Email: req.hint})
}

// suffices reports whether an IdP session answers a request without any form.
func (p *Provider) suffices(a authentication, req authRequest) bool {
	_, enabled := p.people.bySubject(a.Subject)
	_, reached := reach(req.acrs, a.AMR)
	fresh := req.maxAge < 0 || p.cfg.Now().Sub(a.Time) <= req.maxAge && req.maxAge > 0
	return enabled && reached && fresh && req.prompt != "login"
}

// password handles the password page.
func (p *Provider) password(w http.ResponseWriter, r *http.Request) {
	in, ok := p.logins.take(r, stagePassword)
	if !ok {
		p.lost(w)
		return
	}
	if r.PostFormValue("action") == "cancel" {
		p.cancel(w, r, in)
		return
	}
	user, ok := p.people.checkPassword(r.PostFormValue("email"), r.PostFormValue("password"))
	if !ok {
		p.cfg.Log.Info("password refused") // what was typed as the e-mail address may be the password
		p.page(w, http.StatusUnauthorized, passwordPage, view{Login: in.id, Email: r.PostFormValue("email"), Error: "Unable to sign in: e-mail address or password is wrong."})
		return
	}
	in.user, in.amr = user, []string{"pwd"}
	if user.TOTPSecret == "" {
		p.authenticated(w, r, in)
		return
	}
	in.stage = stageTOTP
	p.logins.put(in)
	p.page(w, http.StatusOK, totpPage, view{Login: in.id, Email: user.Email})
}

// totp handles the page of the second factor.
func (p *Provider) totp(w http.ResponseWriter, r *http.Request) {
	in, ok := p.logins.take(r, stageTOTP)
	if !ok {
		p.lost(w)
		return
	}
	if r.PostFormValue("action") == "cancel" {
		p.cancel(w, r, in)
		return
	}
	user, ok := p.people.byEmail(in.user.Email) // disabled between the two pages
	if !ok || !p.people.checkTOTP(user, r.PostFormValue("totp")) {
		p.cfg.Log.Info("one-time code refused", "email", in.user.Email)
		p.page(w, http.StatusUnauthorized, totpPage, view{Login: in.id, Email: in.user.Email, Error: "The code is wrong or has expired."})
		return
	}
	in.amr = []string{"pwd", "mfa", "otp"}
	p.authenticated(w, r, in)
}

// authenticated ends a login for a client, or asks for the approval of a device.
func (p *Provider) authenticated(w http.ResponseWriter, r *http.Request, in login) {
	a := authentication{Subject: in.user.Subject, AMR: in.amr, Time: p.cfg.Now()}
	p.cfg.Log.Info("authenticated", "email", in.user.Email, "amr", in.amr)
	if in.device != nil {
		in.stage, in.authenticated = stageApprove, a.Time
		p.logins.put(in)
		p.page(w, http.StatusOK, approvePage, view{Login: in.id, Email: in.user.Email, UserCode: in.device.userCode, Client: p.cfg.ClientID})
		return
	}
	p.logins.end(in)
	p.logins.remember(w, a)
	p.issueCode(w, r, in.request, a)
}

// cancel ends a login by the person's will.
func (p *Provider) cancel(w http.ResponseWriter, r *http.Request, in login) {
	p.logins.end(in)
	if in.device != nil {
		p.page(w, http.StatusOK, messagePage, view{Message: "The login was cancelled. The device waits until its code expires."})
		return
	}
	p.redirectBack(w, r, in.request, url.Values{"error": {"access_denied"}, "error_description": {"the person cancelled the login"}})
}

// lost answers a form that belongs to no login of this browser.
func (p *Provider) lost(w http.ResponseWriter) {
	p.page(w, http.StatusBadRequest, messagePage, view{Message: "This login has expired or was begun in another browser. Start again."})
}
