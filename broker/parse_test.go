package broker

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"sega/audit/store"
	"sega/broker/api"
)

// TestSource (R13): a forwarded address counts from listed networks only, and then the last that is
// not itself listed.
func TestSource(t *testing.T) {
	s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}}
	for name, c := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                          {"192.0.2.1:99", nil, "192.0.2.1"},
		"direct, with a forged header":    {"192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1"},
		"one proxy":                       {"10.0.0.1:99", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy that adds nothing":       {"10.0.0.1:99", nil, "10.0.0.1"},
		"two proxies":                     {"10.0.0.1:99", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"two headers":                     {"10.0.0.1:99", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"the client forged the beginning": {"10.0.0.1:99", []string{"10.9.9.9, 203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		"forged behind an unlisted proxy": {"10.0.0.1:99", []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"only proxies":                    {"10.0.0.1:99", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"no address":                      {"10.0.0.1:99", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		"no address further left":         {"10.0.0.1:99", []string{"unknown, 198.51.100.1"}, "198.51.100.1"},
		"an address with a port":          {"10.0.0.1:99", []string{"198.51.100.1:4711"}, "10.0.0.1"},
		"empty entries":                   {"10.0.0.1:99", []string{"198.51.100.1,,"}, "10.0.0.1"},
		"IPv6":                            {"[2001:db8::1]:99", []string{"2001:470::7"}, "2001:470::7"},
		"IPv4 in IPv6":                    {"[::ffff:10.0.0.1]:99", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"an unusable peer":                {"@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr, r.Header = c.remote, http.Header{"X-Forwarded-For": c.forwarded}
			if got := s.source(r).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// FuzzSource: from an unlisted peer no header changes anything, and what counts is an address.
func FuzzSource(f *testing.F) {
	for _, seed := range []string{"", "198.51.100.1", "1.2.3.4, 10.0.0.2", ",,", "::1%eth0", "::ffff:10.0.0.1"} {
		f.Add(seed)
	}
	s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"X-Forwarded-For": {header}}
		r.RemoteAddr = "192.0.2.1:9"
		if got := s.source(r); got != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("%q makes an unlisted peer %s", header, got)
		}
		r.RemoteAddr = "10.0.0.1:9"
		got := s.source(r)
		if !got.IsValid() || got.Is4In6() || !strings.Contains(","+header, strings.TrimPrefix(got.String(), "::ffff:")) && got != netip.MustParseAddr("10.0.0.1") && !got.Is6() {
			t.Errorf("%q gives %s", header, got)
		}
	})
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		query    string
		from, to int64
		ok       bool
	}{
		{"from=0&to=10", 0, 10, true}, {"from=10&to=10", 10, 10, true}, {"from=0&to=0", 0, 0, true},
		{"from=0&to=11", 0, 0, false}, {"from=5&to=4", 0, 0, false}, {"from=-1&to=4", 0, 0, false}, {"from=0", 0, 0, false}, {"", 0, 0, false},
		{"from=a&to=4", 0, 0, false}, {"from=0&to=9223372036854775808", 0, 0, false}, {"from=0x0&to=1", 0, 0, false},
		{"from=1&from=2&to=4", 0, 0, false}, {"from=1&to=4&to=4", 0, 0, false}, {"from=1&to=4&x=1", 0, 0, false}, {"from=&to=4", 0, 0, false},
	} {
		q, _ := url.ParseQuery(c.query)
		from, to, err := parseRange(q, 10)
		if from != c.from || to != c.to || (err == nil) != c.ok || err != nil && !api.IsKind(err, api.KindInvalid) {
			t.Errorf("%s: %d, %d, %v", c.query, from, to, err)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("from=0&to=10", int64(10))
	f.Add("from=-1&to=99", int64(0))
	f.Fuzz(func(t *testing.T, query string, size int64) {
		q, _ := url.ParseQuery(query)
		from, to, err := parseRange(q, size)
		if err == nil && (from < 0 || to < from || to > size) {
			t.Errorf("%q of %d: %d, %d", query, size, from, to)
		}
	})
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"plain", 100, "plain"}, {"grüße 世界", 100, "grüße 世界"}, {"\x1b[31mred\x1b[0m", 100, "[31mred[0m"}, {"a\nb\tc\x00d\x7fe", 100, "abcde"},
		{"a\u009bb\u0080c", 100, "abc"}, {"世界世界", 3, "世界世"}, {"\n\n\nab", 2, "ab"}, {"abc", 0, ""}, {"a\xffb", 100, "a\ufffdb"},
	} {
		if got := printable(c.in, c.limit); got != c.want {
			t.Errorf("%q, %d: %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[2J\xff\u009b", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1000 {
			return
		}
		got := printable(s, limit)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > limit || strings.ContainsFunc(got, unicode.IsControl) || printable(got, limit) != got {
			t.Errorf("%q: %q", s, got)
		}
	})
}

// TestStoreReason: what leaves the broker of a store's error names a cause and nothing else.
func TestStoreReason(t *testing.T) {
	for text, want := range map[string]string{
		"database or disk is full (13)": "its disk is full", "No Space: DISK FULL": "its disk is full", "attempt to write a readonly database": "its disk is read-only",
		"open /srv/canary: read-only file system": "its disk is read-only", "canary": "its database does not take writes",
	} {
		err := unavailable(errors.Join(store.ErrUnavailable, errors.New(text)))
		p := api.AsProblem(err)
		if got := storeReason(errors.New(text)); got != want || p.Kind != api.KindUnavailable || !strings.HasSuffix(p.Detail, want) || strings.Contains(p.Detail+p.Hint, "canary") {
			t.Errorf("%q: %q, problem %q", text, got, p.Detail)
		}
	}
	denied := api.Errorf(api.KindDenied, "no")
	if unavailable(nil) != nil || unavailable(denied) != error(denied) || !api.IsKind(unavailable(errors.New("x")), api.KindInternal) {
		t.Error("other errors are changed")
	}
}
