package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// page is what we read of a page.
type page struct {
	alert string // text of the element with role="alert"
	text  string // of the whole body
	form  *form  // the first one, or nil
}

// form is an HTML form with its default values.
type form struct {
	method  string
	action  string
	values  url.Values
	fields  []string // names of the inputs, as the page orders them
	buttons []button
}

type button struct{ name, value string }

// parsePage reads a page the way a browser does, so errors are rare.
func parsePage(body []byte) (page, error) {
	root, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return page{}, fmt.Errorf("browser: read the page: %w", err)
	}
	var p page
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if attr(n, "role") == "alert" && p.alert == "" {
			p.alert = text(n)
		}
		if n.DataAtom == atom.Body {
			p.text = text(n)
		}
		if n.DataAtom == atom.Form && p.form == nil {
			p.form = parseForm(n)
		}
	}
	return p, nil
}

func parseForm(n *html.Node) *form {
	f := &form{method: strings.ToUpper(attr(n, "method")), action: attr(n, "action"), values: url.Values{}}
	for c := range n.Descendants() {
		name := attr(c, "name")
		switch {
		case c.Type != html.ElementNode || name == "":
		case c.DataAtom == atom.Button:
			f.buttons = append(f.buttons, button{name, attr(c, "value")})
		case c.DataAtom == atom.Input:
			f.fields = append(f.fields, name)
			f.values.Set(name, attr(c, "value"))
		}
	}
	return f
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// text returns the text below n, blanks collapsed.
func text(n *html.Node) string {
	var parts []string
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			parts = append(parts, strings.Fields(c.Data)...)
		}
	}
	return strings.Join(parts, " ")
}

func (f *form) has(field string) bool { return slices.Contains(f.fields, field) }

// press chooses the first wanted button that the form has; a form without buttons needs none.
func (f *form) press(wanted []string) error {
	if len(f.buttons) == 0 {
		return nil
	}
	for _, value := range wanted {
		for _, b := range f.buttons {
			if b.value == value {
				f.values.Set(b.name, b.value)
				return nil
			}
		}
	}
	return errors.New("browser: the form has no button that fits")
}

// submit returns the request of the form, relative to the page at base. A form may lead to its
// own origin alone: there are credentials in it.
func (f *form) submit(ctx context.Context, base *url.URL) (*http.Request, error) {
	to, err := base.Parse(f.action)
	if err != nil || to.Scheme != base.Scheme || to.Host != base.Host {
		return nil, errors.New("browser: refuse to submit a form to another origin")
	}
	if f.method != http.MethodPost {
		to.RawQuery = f.values.Encode()
		return http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(f.values.Encode()))
	if err != nil {
		return nil, fmt.Errorf("browser: submit the form: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}
