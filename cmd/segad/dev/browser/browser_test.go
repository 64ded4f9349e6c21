package browser

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// site serves pages by path and records what was posted.
type site struct {
	*httptest.Server
	posted []string
}

func newSite(t *testing.T, pages map[string]string) *site {
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = r.ParseForm()
			s.posted = append(s.posted, r.URL.Path+" "+r.PostForm.Encode())
		}
		body, ok := pages[r.URL.Path]
		to, redirect := strings.CutPrefix(body, "redirect:")
		switch {
		case !ok:
			http.NotFound(w, r)
		case redirect:
			w.Header().Set("Location", strings.ReplaceAll(to, "@", s.URL))
			w.WriteHeader(http.StatusSeeOther)
		default:
			_, _ = w.Write([]byte(strings.ReplaceAll(body, "@", s.URL)))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

const loginForm = `<form method=post action="next"><input type=hidden name=id value="7 8"><input name=email><input type=password name=password>
<button name=action value=continue>Go</button><button name=action value=cancel>No</button></form>`

func person() Credentials { return Credentials{Email: "ann@corp.example", Password: "p&w"} }

func TestVisit(t *testing.T) {
	for _, c := range []struct {
		name  string
		pages map[string]string
		cred  Credentials
		want  []string // posted
		fails string   // text of the error
	}{
		{name: "no form", pages: map[string]string{"/a": "hello"}},
		{name: "form", pages: map[string]string{"/a": loginForm, "/next": "done"}, cred: person(),
			want: []string{"/next action=continue&email=ann%40corp.example&id=7+8&password=p%26w"}},
		{name: "cancel", pages: map[string]string{"/a": loginForm, "/next": "done"}, cred: Credentials{Cancel: true},
			want: []string{"/next action=cancel&email=&id=7+8&password="}},
		{name: "redirects", pages: map[string]string{"/a": "redirect:@/b", "/b": "redirect:/c", "/c": "done"}},
		{name: "no password", pages: map[string]string{"/a": loginForm}, cred: Credentials{Email: "a"}, fails: "asks for the password"},
		{name: "no authenticator", pages: map[string]string{"/a": `<form method=post><input name=totp></form>`}, cred: person(), fails: "no authenticator"},
		{name: "message", pages: map[string]string{"/a": loginForm, "/next": `<p role="alert">Wrong <b>password</b>.</p>` + loginForm}, cred: person(),
			want: []string{"/next action=continue&email=ann%40corp.example&id=7+8&password=p%26w"}, fails: "Wrong password"},
		{name: "missing page", pages: map[string]string{"/a": "redirect:/gone"}, fails: "HTTP status 404"},
		{name: "other origin", pages: map[string]string{"/a": `<form method=post action="http://127.0.0.1:1/"><input name=password></form>`}, cred: person(), fails: "another origin"},
		{name: "other machine", pages: map[string]string{"/a": "redirect:http://192.0.2.1/"}, fails: "not on loopback"},
		{name: "name like loopback", pages: map[string]string{"/a": "redirect:http://127.0.0.1.example/"}, fails: "not on loopback"},
		{name: "circle", pages: map[string]string{"/a": "redirect:/a"}, fails: "no end"},
		{name: "no button that fits", pages: map[string]string{"/a": `<form method=post><button name=x value=y></form>`}, fails: "no button"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.pages)
			err := Visit(t.Context(), s.URL+"/a", c.cred)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
			if diff := cmp.Diff(c.want, s.posted); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDenyPressesDeny(t *testing.T) {
	page := `<form method=post action=/done><button name=action value=approve></button><button name=action value=deny></button></form>`
	for deny, want := range map[bool]string{true: "/done action=deny", false: "/done action=approve"} {
		s := newSite(t, map[string]string{"/a": page, "/done": "ok"})
		if err := Visit(t.Context(), s.URL+"/a", Credentials{Deny: deny}); err != nil || s.posted[0] != want {
			t.Errorf("deny %t: posted %v, %v", deny, s.posted, err)
		}
	}
}

func TestAddressStopsBeforeTheCallback(t *testing.T) {
	s := newSite(t, map[string]string{"/a": "redirect:http://127.0.0.1:1/callback?code=c", "/b": "no redirect"})
	got, err := (&Browser{}).Address(t.Context(), s.URL+"/a", Credentials{}, "http://127.0.0.1:1/")
	if err != nil || got != "http://127.0.0.1:1/callback?code=c" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (&Browser{}).Address(t.Context(), s.URL+"/b", Credentials{}, "http://127.0.0.1:1/"); err == nil {
		t.Error("a visit that ends elsewhere has an address")
	}
	err = Visit(t.Context(), s.URL+"/a", Credentials{})
	if err == nil || strings.Contains(err.Error(), "code=c") {
		t.Errorf("error of a callback that does not load: %v", err)
	}
}

func TestRefusalIsTyped(t *testing.T) {
	s := newSite(t, map[string]string{})
	var page *PageError
	if err := Visit(t.Context(), s.URL+"/a", Credentials{}); !errors.As(err, &page) || page.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add(loginForm)
	f.Add(`<p role=alert>x</p><form><form><input name=a><template><input name=b>`)
	f.Fuzz(func(t *testing.T, body string) {
		p, err := parsePage([]byte(body))
		if err != nil || p.form == nil {
			return
		}
		for _, name := range p.form.fields {
			if !p.form.values.Has(name) {
				t.Errorf("field %q without a value", name)
			}
		}
	})
}
