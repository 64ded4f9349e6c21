package awssts

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const broker = "https://sega.corp.example"

func newConsole(t *testing.T, endpoint string) *Console {
	t.Helper()
	c, err := NewConsole(ConsoleConfig{Endpoint: endpoint, Issuer: broker, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func roleOf(partition string) string { return "arn:" + partition + ":iam::222222222222:role/admin" }

// TestPlace: every page is on the console of the role's own partition, and one signs in there.
func TestPlace(t *testing.T) {
	const signIn, gov, china = "https://us-east-1.signin.aws.amazon.com", "https://signin.amazonaws-us-gov.com", "https://signin.amazonaws.cn"
	for _, tt := range []struct {
		name, partition string
		page            Page
		want            string // "": refused
		signIn          string
	}{
		{"start", "aws", Page{}, "https://console.aws.amazon.com/console/home", signIn},
		{"region", "aws", Page{Region: "eu-west-1"}, "https://eu-west-1.console.aws.amazon.com/console/home?region=eu-west-1", signIn},
		{"service", "aws", Page{Service: "s3"}, "https://console.aws.amazon.com/s3/home", signIn},
		{"service and region", "aws", Page{Service: "ec2", Region: "eu-central-1"}, "https://eu-central-1.console.aws.amazon.com/ec2/home?region=eu-central-1", signIn},
		{"path", "aws", Page{Path: "/s3/buckets?region=eu-west-1"}, "https://console.aws.amazon.com/s3/buckets?region=eu-west-1", signIn},
		{"path and region", "aws", Page{Path: "/ec2/home#Instances:v=3;$case=tags:true", Region: "eu-west-1"}, "https://eu-west-1.console.aws.amazon.com/ec2/home#Instances:v=3;$case=tags:true", signIn},
		{"an @ behind the host", "aws", Page{Path: "/@evil.example/x"}, "https://console.aws.amazon.com/@evil.example/x", signIn},
		{"an address in the query", "aws", Page{Path: "/x?next=https://evil.example"}, "https://console.aws.amazon.com/x?next=https://evil.example", signIn},
		{"GovCloud", "aws-us-gov", Page{Service: "s3", Region: "us-gov-west-1"}, "https://us-gov-west-1.console.amazonaws-us-gov.com/s3/home?region=us-gov-west-1", gov},
		{"GovCloud, start", "aws-us-gov", Page{}, "https://console.amazonaws-us-gov.com/console/home", gov},
		{"China", "aws-cn", Page{Path: "/ec2/home", Region: "cn-north-1"}, "https://cn-north-1.console.amazonaws.cn/ec2/home", china},
		{"China, start", "aws-cn", Page{}, "https://console.amazonaws.cn/console/home", china},

		{"region of GovCloud", "aws", Page{Region: "us-gov-west-1"}, "", ""},
		{"region of China", "aws", Page{Region: "cn-north-1"}, "", ""},
		{"region of aws in GovCloud", "aws-us-gov", Page{Region: "us-east-1"}, "", ""},
		{"region of GovCloud in China", "aws-cn", Page{Region: "us-gov-west-1"}, "", ""},
		{"region that is a host", "aws", Page{Region: "evil.example/"}, "", ""},
		{"region with a newline", "aws", Page{Region: "eu-west-1\n"}, "", ""},
		{"partition without a console", "aws-iso", Page{}, "", ""},
		{"service and path", "aws", Page{Service: "s3", Path: "/s3"}, "", ""},
		{"service that is a path", "aws", Page{Service: "s3/../../evil"}, "", ""},
		{"service that is a host", "aws", Page{Service: "/evil.example"}, "", ""},
		{"service with a query", "aws", Page{Service: "s3?x"}, "", ""},
		{"path that is an address", "aws", Page{Path: "https://evil.example/"}, "", ""},
		{"path that continues the host", "aws", Page{Path: ".evil.example/"}, "", ""},
		{"path that makes the host a user", "aws", Page{Path: "@evil.example/"}, "", ""},
		{"path that is a port", "aws", Page{Path: ":8443/"}, "", ""},
		{"path without its scheme", "aws", Page{Path: "//evil.example/"}, "", ""},
		{"path by a backslash", "aws", Page{Path: `/\evil.example/`}, "", ""},
		{"path with a tab", "aws", Page{Path: "/\t/evil.example/"}, "", ""},
		{"path with a newline", "aws", Page{Path: "/x\nSet-Cookie: a=b"}, "", ""},
		{"path with a NUL", "aws", Page{Path: "/x\x00"}, "", ""},
		{"path with a blank", "aws", Page{Path: "/x y"}, "", ""},
		{"path outside of ASCII", "aws", Page{Path: "/ｅvil"}, "", ""},
		{"path with a broken escape", "aws", Page{Path: "/%zz"}, "", ""},
		{"path of 4097", "aws", Page{Path: "/" + strings.Repeat("x", 4096)}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newConsole(t, "").Place(roleOf(tt.partition), tt.page)
			var e *Error
			if tt.want == "" {
				if !errors.As(err, &e) || e.Kind != KindInvalid || got != (Place{}) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			want := Place{tt.want, tt.signIn + "/oauth?Action=logout", tt.partition == "aws", tt.signIn + "/federation"}
			if err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}

// FuzzPlace: whatever is typed, the page is on the partition's console, as a browser reads it too.
func FuzzPlace(f *testing.F) {
	f.Add("aws", "s3", "", "eu-west-1")
	f.Add("aws-us-gov", "", "/s3/buckets?x=//y#@z", "us-gov-west-1")
	f.Add("aws-cn", "", `/\/evil.example`, "")
	f.Add("aws", "", "/a/../..//b:c@d[e]", "")
	f.Fuzz(func(t *testing.T, part, service, path, region string) {
		c, err := NewConsole(ConsoleConfig{Issuer: broker})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Place(roleOf(part), Page{service, path, region})
		if err != nil {
			return
		}
		u, err := url.Parse(got.Destination)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" {
			t.Fatalf("%q, %v", got.Destination, err)
		}
		host := partitions[part].console
		if host == "" || u.Host != host && u.Host != region+"."+host {
			t.Errorf("%q is not on %q", got.Destination, host)
		}
		if strings.ContainsFunc(got.Destination, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' || r == '"' || r == '<' || r == '>' }) || strings.Contains(u.Host, "..") {
			t.Errorf("%q", got.Destination)
		}
	})
}

// federated is what a federation endpoint was asked.
type federated struct {
	method, query string
	form          url.Values
}

func federationOf(t *testing.T, status int, answer string) (string, *[]federated) {
	t.Helper()
	asked := &[]federated{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		*asked = append(*asked, federated{r.Method, r.URL.RequestURI(), form})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// TestSignIn: the credentials go in the body, never in an address, and SessionDuration goes along only
// where the session does not come of role chaining.
func TestSignIn(t *testing.T) {
	for _, chained := range []bool{true, false} {
		endpoint, asked := federationOf(t, 200, `{"SigninToken":"canary-sign-in+/="}`)
		c := newConsole(t, endpoint)
		session := before()
		session.Chained, session.Duration = chained, 4*time.Hour
		place, err := c.Place(adminARN, Page{Path: "/s3/buckets?region=eu-west-1#x"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.SignIn(context.Background(), session, place)
		if err != nil {
			t.Fatal(err)
		}
		var sent map[string]string
		form := (*asked)[0].form
		if err := json.Unmarshal([]byte(form.Get("Session")), &sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"sessionId": "ASIABEFORE0000000000", "sessionKey": "canary-before-secret", "sessionToken": "canary-before-token"}, sent); diff != "" {
			t.Errorf("session: -want +got\n%s", diff)
		}
		form.Del("Session")
		want := url.Values{"Action": {"getSigninToken"}, "SessionDuration": {"14400"}}
		seconds := 14400
		if chained {
			want.Del("SessionDuration")
			seconds = 0
		}
		if diff := cmp.Diff(want, form); diff != "" || (*asked)[0].method != "POST" || (*asked)[0].query != "/federation" || len(*asked) != 1 || got.Seconds != seconds {
			t.Errorf("%s %s, %d seconds: -want +got\n%s", (*asked)[0].method, (*asked)[0].query, got.Seconds, diff)
		}
		u, err := url.Parse(string(got.URL.Reveal()))
		if err != nil || u.Path != "/federation" || !strings.HasPrefix(string(got.URL.Reveal()), endpoint) {
			t.Errorf("%s", got.URL.Reveal())
		}
		login := url.Values{"Action": {"login"}, "Issuer": {broker}, "Destination": {endpoint + "/s3/buckets?region=eu-west-1#x"}, "SigninToken": {"canary-sign-in+/="}}
		if diff := cmp.Diff(login, u.Query()); diff != "" {
			t.Errorf("login: -want +got\n%s", diff)
		}
		leaks(t, got)
	}
}

// TestEnds: the later end counts for who looks at what is still out there.
func TestEnds(t *testing.T) {
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	if got := (SignIn{}).Ends(now.Add(time.Hour), now); got != now.Add(time.Hour) {
		t.Errorf("without a duration: %v", got)
	}
	if got := (SignIn{Seconds: 3600}).Ends(now.Add(time.Hour), now); got != now.Add(75*time.Minute) {
		t.Errorf("an hour from a sign-in in the last moment: %v", got)
	}
}

func TestFederationRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		status  int
		answer  string
		chained bool
		kind    Kind
		hint    string
	}{
		{"chained after all", 400, "Invalid credentials parameter canary", false, KindRejected, "chained: true"},
		{"refused", 400, "canary", true, KindRejected, "once more"},
		{"redirected", 302, "", true, KindRejected, ""},
		{"down", 503, "canary", true, KindUnavailable, "try again"},
		{"no token", 200, `{"canary":"x"}`, true, KindAnswer, "federation_endpoint"},
		{"no JSON", 200, `<html>canary`, true, KindAnswer, "federation_endpoint"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			endpoint, asked := federationOf(t, tt.status, tt.answer)
			c := newConsole(t, endpoint)
			place, err := c.Place(adminARN, Page{})
			if err != nil {
				t.Fatal(err)
			}
			session := before()
			session.Chained, session.Duration = tt.chained, time.Hour
			got, err := c.SignIn(context.Background(), session, place)
			var e *Error
			if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Hint, tt.hint) || e.Ambiguous || !got.URL.Empty() || len(*asked) != 1 {
				t.Errorf("%#v after %d requests", e, len(*asked))
			}
			leaks(t, err)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		srv := httptest.NewServer(nil)
		srv.Close()
		c := newConsole(t, srv.URL)
		place, err := c.Place(adminARN, Page{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.SignIn(context.Background(), before(), place)
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindUnreachable || !strings.Contains(e.Detail, "federation endpoint") {
			t.Errorf("%#v", e)
		}
		leaks(t, err)
	})
}

func TestFederationEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{"": true, "https://signin.example": true, "http://127.0.0.1:9": true, "http://10.0.0.1:9": false, "http://localhost:9": false,
		"ftp://x": false, "https://a@x": false, "https://x/path": false, "https://x?q": false, "x": false} {
		if _, err := NewConsole(ConsoleConfig{Endpoint: endpoint}); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
