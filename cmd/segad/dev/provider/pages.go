package provider

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
)

// view is what the pages show.
type view struct {
	Login    string // ID of the login in progress
	Email    string
	UserCode string
	Client   string
	Error    string // why the form is shown again
	Message  string
}

const pageFrame = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>sega development identity provider</title></head>
<body><main>{{with .Error}}<p role="alert">{{.}}</p>{{end}}`

const (
	passwordPage = pageFrame + `<h1>Sign in</h1>
<form method="post" action="/login/password"><input type="hidden" name="login" value="{{.Login}}">
<p><label>E-mail <input type="email" name="email" value="{{.Email}}" autocomplete="username" required></label></p>
<p><label>Password <input type="password" name="password" autocomplete="current-password" required></label></p>
<p><button name="action" value="continue">Sign in</button> <button name="action" value="cancel" formnovalidate>Cancel</button></p>
</form></main></body></html>
`
	totpPage = pageFrame + `<h1>Verify</h1><p>{{.Email}}</p>
<form method="post" action="/login/totp"><input type="hidden" name="login" value="{{.Login}}">
<p><label>Code of your authenticator <input type="text" name="totp" inputmode="numeric" autocomplete="one-time-code" required></label></p>
<p><button name="action" value="continue">Verify</button> <button name="action" value="cancel" formnovalidate>Cancel</button></p>
</form></main></body></html>
`
	userCodePage = pageFrame + `<h1>Connect a device</h1>
<form method="post" action="/device">
<p><label>Code that the device shows <input type="text" name="user_code" value="{{.UserCode}}" autocomplete="off" required></label></p>
<p><button name="action" value="continue">Continue</button></p>
</form></main></body></html>
`
	approvePage = pageFrame + `<h1>Approve a device</h1>
<p>{{.Email}}: a device asks to log in to {{.Client}} as you. It shows the code <strong>{{.UserCode}}</strong>. Approve only if you began this yourself.</p>
<form method="post" action="/device/approve"><input type="hidden" name="login" value="{{.Login}}">
<p><button name="action" value="approve">Approve</button> <button name="action" value="deny">Deny</button></p>
</form></main></body></html>
`
	messagePage = pageFrame + `<p>{{.Message}}</p></main></body></html>
`
)

// page writes a page that no other site can frame and no cache keeps.
func (p *Provider) page(w http.ResponseWriter, status int, text string, v view) {
	var b bytes.Buffer
	t, err := template.New("page").Parse(text)
	if err == nil {
		err = t.Execute(&b, v)
	}
	if err != nil {
		p.cfg.Log.Error("render a page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// writeJSON writes v. Answers are not to be cached unless a header already says otherwise.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
