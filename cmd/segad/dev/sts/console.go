package sts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sega/keychain/secret"
)

// signInLife is how long a sign-in token may be used, once.
const signInLife = 15 * time.Minute

// cookieName is the console's cookie. Cookies of one host are shared by all of its ports.
const cookieName = "sega-dev-console"

// Console is a double of AWS's federation endpoint and of the console behind it: /federation, /oauth,
// and everywhere else a page that says who is signed in. It knows the sessions of one Server.
type Console struct {
	sts      *Server
	listener net.Listener
	http     *http.Server

	mu     sync.Mutex
	tokens map[string]signIn // by sign-in token
	open   map[string]signIn // console sessions, by cookie
	calls  []SignInCall
}

// signIn is a console session that may be begun, or has been.
type signIn struct {
	ARN     string
	until   time.Time // of the token, then of the session
	seconds int       // SessionDuration; 0: as long as the credentials
	expires time.Time // of the credentials
}

// SignInCall is what a console remembers of a request for a sign-in token. It holds no secret.
type SignInCall struct {
	AccessKeyID     string
	SessionDuration string // as sent
	Status          int
}

// NewConsole makes the console of a double. l is of a loopback address; Run closes it.
func NewConsole(s *Server, l net.Listener) (*Console, error) {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, fmt.Errorf("sts: %s is not a loopback address; this double opens to nobody else", l.Addr())
	}
	c := &Console{sts: s, listener: l, tokens: map[string]signIn{}, open: map[string]signIn{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /federation", c.issue)
	mux.HandleFunc("GET /federation", c.federation)
	mux.HandleFunc("GET /oauth", c.logout)
	mux.HandleFunc("GET /", c.page)
	c.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn)}
	return c, nil
}

// URL returns the console's address.
func (c *Console) URL() string { return "http://" + c.listener.Addr().String() }

// Run serves until ctx ends. It may be called once.
func (c *Console) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- c.http.Serve(c.listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if c.http.Shutdown(stop) != nil {
		_ = c.http.Close()
	}
	<-served
	return nil
}

// SignInCalls returns the requests for sign-in tokens, oldest first.
func (c *Console) SignInCalls() []SignInCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]SignInCall(nil), c.calls...)
}

// federation is what comes by an address. AWS takes credentials there as well; whoever tests against
// this double must not send any.
func (c *Console) federation(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Query().Has("Session"):
		http.Error(w, "send the session in the body of a POST", http.StatusMethodNotAllowed)
	case r.URL.Query().Get("Action") == "login":
		c.login(w, r)
	default:
		http.Error(w, "invalid action", http.StatusBadRequest)
	}
}

// issue answers getSigninToken. AWS gives no reason but the words of its support article.
func (c *Console) issue(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	form, parseErr := url.ParseQuery(string(body))
	if err != nil || parseErr != nil || r.URL.RawQuery != "" || !onceEach(form, "Action", "Session", "SessionDuration") || form.Get("Action") != "getSigninToken" {
		http.Error(w, "invalid request", http.StatusBadRequest)
		return
	}
	var session struct{ SessionID, SessionKey, SessionToken string }
	d := json.NewDecoder(bytes.NewReader([]byte(form.Get("Session"))))
	d.DisallowUnknownFields()
	call := SignInCall{SessionDuration: form.Get("SessionDuration"), Status: http.StatusBadRequest}
	in, ok := signIn{}, d.Decode(&session) == nil
	if ok {
		call.AccessKeyID = session.SessionID
		in, ok = c.admit(session.SessionID, session.SessionKey, session.SessionToken, form)
	}
	token := ""
	if ok {
		token, call.Status = randomText(), http.StatusOK
	}
	c.mu.Lock()
	c.calls = append(c.calls, call)
	if ok {
		c.tokens[token] = in
	}
	c.mu.Unlock()
	c.sts.cfg.Log.Info("federation", "access_key_id", call.AccessKeyID, "session_duration", call.SessionDuration, "status", call.Status)
	if !ok {
		http.Error(w, "Invalid credentials parameter", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"SigninToken": token})
}

// admit checks credentials of a session: those of this double, live, and with a SessionDuration only
// where they do not come of role chaining.
func (c *Console) admit(id, key, token string, form url.Values) (signIn, bool) {
	c.sts.mu.Lock()
	s, ok := c.sts.sessions[id]
	c.sts.mu.Unlock()
	now := c.sts.cfg.Now()
	if !ok || !s.secret.Equal(secret.FromString(key)) || !s.token.Equal(secret.FromString(token)) || !now.Before(s.expires) {
		return signIn{}, false
	}
	in := signIn{ARN: s.principal.arn, until: now.Add(signInLife), expires: s.expires}
	if !form.Has("SessionDuration") {
		return in, true
	}
	n, err := strconv.Atoi(form.Get("SessionDuration"))
	in.seconds = n
	return in, err == nil && n >= 900 && n <= 43200 && !s.chained
}

// login begins a console session, and goes on to its destination.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !onceEach(q, "Action", "Issuer", "Destination", "SigninToken") || q.Get("Issuer") == "" {
		http.Error(w, "invalid request", http.StatusBadRequest)
		return
	}
	// Only this console: AWS takes its own hosts of the same partition.
	to, err := url.Parse(q.Get("Destination"))
	if err != nil || to.Scheme+"://"+to.Host != c.URL() || to.User != nil {
		http.Error(w, "invalid destination", http.StatusBadRequest)
		return
	}
	if in, ok := c.signedIn(r); ok {
		c.show(w, http.StatusBadRequest, shown{Title: "You must first log out before logging into a different AWS account", ARN: in.ARN})
		return
	}
	now := c.sts.cfg.Now()
	c.mu.Lock()
	in, ok := c.tokens[q.Get("SigninToken")]
	delete(c.tokens, q.Get("SigninToken"))
	cookie := randomText()
	if ok = ok && now.Before(in.until); ok {
		in.until = in.expires
		if in.seconds > 0 {
			in.until = now.Add(time.Duration(in.seconds) * time.Second)
		}
		c.open[cookie] = in
	}
	c.mu.Unlock()
	if !ok {
		http.Error(w, "the sign-in token has expired or was used", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", MaxAge: int(in.until.Sub(now).Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
}

func (c *Console) signedIn(r *http.Request) (signIn, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return signIn{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in, ok := c.open[cookie.Value]
	return in, ok && c.sts.cfg.Now().Before(in.until)
}

// logout ends the browser's session. It goes on to its own federation endpoint, and to nothing else.
func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("Action") != "logout" {
		http.Error(w, "invalid action", http.StatusBadRequest)
		return
	}
	if cookie, err := r.Cookie(cookieName); err == nil {
		c.mu.Lock()
		delete(c.open, cookie.Value)
		c.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true})
	to, err := url.Parse(r.URL.Query().Get("redirect_uri"))
	if err != nil || to.Scheme+"://"+to.Host != c.URL() || to.Path != "/federation" {
		to = &url.URL{Path: "/"}
	}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
}

// shown is what the page says.
type shown struct{ Title, ARN, Page, Until string }

var consolePage = template.Must(template.New("console").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>{{.Title}}</title><h1>{{.Title}}</h1>
{{with .ARN}}<p>signed in as <b id="arn">{{.}}</b></p>{{end}}{{with .Page}}<p>at <b id="page">{{.}}</b></p>{{end}}{{with .Until}}<p>until <b id="until">{{.}}</b></p>{{end}}
</html>
`))

func (c *Console) page(w http.ResponseWriter, r *http.Request) {
	in, ok := c.signedIn(r)
	if !ok {
		c.show(w, http.StatusOK, shown{Title: "Nobody is signed in to the console of segad dev"})
		return
	}
	c.show(w, http.StatusOK, shown{"The console of segad dev", in.ARN, r.URL.RequestURI(), in.until.UTC().Format(time.RFC3339)})
}

func (c *Console) show(w http.ResponseWriter, status int, v shown) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := consolePage.Execute(w, v); err != nil {
		c.sts.cfg.Log.Debug("page not delivered", "error", err)
	}
}

// onceEach reports whether all parameters are among names, each once.
func onceEach(values url.Values, names ...string) bool {
	known := map[string]bool{}
	for _, n := range names {
		known[n] = true
	}
	for name, v := range values {
		if !known[name] || len(v) != 1 {
			return false
		}
	}
	return true
}

func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
