package awssts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sega/keychain/secret"
)

// SignInLife is how long a sign-in address may be used (IAM User Guide, "Enabling custom identity
// broker access to the AWS console").
const SignInLife = 15 * time.Minute

// ConsoleConfig says where consoles are.
type ConsoleConfig struct {
	Endpoint string       // empty: AWS's own; of a test double that is both sign-in and console: https, or http on loopback
	Issuer   string       // where AWS sends people whose console session has ended: the broker's origin
	HTTP     *http.Client // may be nil: one of its own
	Timeout  time.Duration
}

// Console opens AWS's web console for role sessions. It is safe for use by many goroutines.
type Console struct {
	endpoint, issuer string
	http             *http.Client
	timeout          time.Duration
}

// NewConsole makes a Console. Errors are of KindInvalid.
func NewConsole(c ConsoleConfig) (*Console, error) {
	if c.Endpoint != "" {
		if err := checkEndpoint(c.Endpoint); err != nil {
			return nil, invalid("the federation endpoint is not an https address", "write https://HOST[:PORT], or http:// with a loopback address for a test double")
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	return &Console{strings.TrimRight(c.Endpoint, "/"), c.Issuer, noRedirect(c.HTTP), c.Timeout}, nil
}

// Page is what a person wants to see of the console. The zero value is its start.
type Page struct {
	Service string // like "s3": that service's own page
	Path    string // path, query and fragment below the console's host, like "/s3/buckets?region=eu-west-1"
	Region  string // empty: the one that the person was in last
}

// Place is where a page is and where one signs in for it.
type Place struct {
	Destination string // whole address of the page, on the partition's own console host
	// LogoutURL ends the browser's console session. LogoutLeadsOn: with &redirect_uri= behind it, it goes on to an address of its own
	// host. That holds for the partition aws, in practice and not by AWS's documents.
	LogoutURL     string
	LogoutLeadsOn bool

	signIn string // address of the federation endpoint
}

// partitions are the hosts of each partition whose console is known (IAM User Guide, as above). A
// region's own console is REGION.HOST.
var partitions = map[string]struct{ signIn, logout, console, regions string }{
	// us-east-1 is the region whose logout leads on, to its own federation endpoint alone.
	"aws":        {"us-east-1.signin.aws.amazon.com", "us-east-1.signin.aws.amazon.com", "console.aws.amazon.com", ""},
	"aws-us-gov": {"signin.amazonaws-us-gov.com", "signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com", "us-gov-"},
	"aws-cn":     {"signin.amazonaws.cn", "signin.amazonaws.cn", "console.amazonaws.cn", "cn-"},
}

// Place finds a page for a role's session: always on the console of the role's own partition, whatever
// the page says. Errors are of KindInvalid.
func (c *Console) Place(roleARN string, p Page) (Place, error) {
	hosts, ok := partitions[partition(roleARN)]
	if !ok {
		return Place{}, invalid("the console of the role's partition "+strconv.Quote(partition(roleARN))+" is not known", "")
	}
	signIn, logout, console := "https://"+hosts.signIn, "https://"+hosts.logout, "https://"+hosts.console
	if p.Region != "" {
		if !regionRule.MatchString(p.Region) || regionsOf(p.Region) != hosts.regions {
			return Place{}, invalid("that is no region of the role's partition "+partition(roleARN), "write it like eu-west-1")
		}
		console = "https://" + p.Region + "." + hosts.console
	}
	leadsOn := partition(roleARN) == "aws"
	if c.endpoint != "" {
		signIn, logout, console, leadsOn = c.endpoint, c.endpoint, c.endpoint, true
	}
	path, err := p.path()
	if err != nil {
		return Place{}, err
	}
	if !stays(console, path) {
		return Place{}, invalid("the path does not stay on the console's host", "")
	}
	return Place{console + path, logout + "/oauth?Action=logout", leadsOn, signIn + "/federation"}, nil
}

// regionsOf returns how the regions of a partition begin: "" for those of aws itself.
func regionsOf(region string) string {
	for _, hosts := range partitions {
		if hosts.regions != "" && strings.HasPrefix(region, hosts.regions) {
			return hosts.regions
		}
	}
	return ""
}

var (
	serviceRule = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,62}\z`)
	// Of the characters of RFC 3986 and of those that consoles put behind the #; none with which a browser begins another host.
	pathRule = regexp.MustCompile(`\A/[A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]{}|-]*\z`)
)

// maxPath bounds what is typed; addresses of consoles with filters in them are long.
const maxPath = 4096

// path returns the page below the console's host.
func (p Page) path() (string, error) {
	switch {
	case p.Path != "" && p.Service != "":
		return "", invalid("a page is given by its service or by its path, not by both", "")
	case p.Path != "":
		if len(p.Path) > maxPath || !pathRule.MatchString(p.Path) || strings.HasPrefix(p.Path, "//") {
			return "", invalid("the path is not one below the console's host", "write it like '/s3/buckets?region=eu-west-1', with other characters as %XX")
		}
		return p.Path, nil
	case p.Service != "" && !serviceRule.MatchString(p.Service):
		return "", invalid("the service is not one of the console", "write it like s3, ec2 or cloudwatch")
	case p.Service != "":
		return "/" + p.Service + "/home" + p.query(), nil
	}
	return "/console/home" + p.query(), nil
}

func (p Page) query() string {
	if p.Region == "" {
		return ""
	}
	return "?region=" + p.Region
}

// stays reports whether base and path, put together and read again, name a page of base's host.
func stays(base, path string) bool {
	b, err := url.Parse(base)
	if err != nil {
		return false
	}
	u, err := url.Parse(base + path)
	return err == nil && u.Scheme == b.Scheme && u.Host == b.Host && u.User == nil
}

// SignIn is an address that signs a browser in as a role's session. Whoever has it is that person.
type SignIn struct {
	URL secret.Secret // good for SignInLife, once
	// Seconds is for how long AWS was asked to let the console session live from the sign-in on; 0: it lives as long
	// as the credentials.
	Seconds int
}

// Ends is when the console session ends at the latest, counted from now.
func (s SignIn) Ends(credentials, now time.Time) time.Time {
	if s.Seconds == 0 {
		return credentials
	}
	return now.Add(SignInLife + time.Duration(s.Seconds)*time.Second)
}

// SignIn turns a session's credentials into a sign-in address. They go to AWS in the body of a request
// and stand in no address. A session of role chaining gets no SessionDuration, for AWS refuses it then.
// Every error is an *Error; none is ambiguous, for what AWS made and did not tell opens nothing.
func (c *Console) SignIn(ctx context.Context, session Result, at Place) (SignIn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	form, seconds, err := federation(session)
	if err != nil {
		return SignIn{}, err
	}
	token, e := c.token(ctx, at.signIn, form)
	if e != nil {
		return SignIn{}, e
	}
	q := url.Values{"Action": {"login"}, "Issuer": {c.issuer}, "Destination": {at.Destination}, "SigninToken": {token}}
	return SignIn{secret.FromString(at.signIn + "?" + q.Encode()), seconds}, nil
}

// federation returns the form of getSigninToken.
func federation(session Result) (url.Values, int, error) {
	raw, err := json.Marshal(map[string]string{"sessionId": session.AccessKeyID,
		"sessionKey": string(session.SecretAccessKey.Reveal()), "sessionToken": string(session.SessionToken.Reveal())})
	if err != nil {
		return nil, 0, invalid("the session's credentials cannot be written", "")
	}
	form := url.Values{"Action": {"getSigninToken"}, "Session": {string(raw)}}
	seconds := 0
	if !session.Chained {
		seconds = int(session.Duration / time.Second)
		form.Set("SessionDuration", strconv.Itoa(seconds))
	}
	return form, seconds, nil
}

// token asks for a sign-in token. What AWS answers to a refusal is not shown: it is no document of
// AWS's, and the request was full of secrets.
func (c *Console) token(ctx context.Context, endpoint string, form url.Values) (string, *Error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", invalid("the federation endpoint is not an address", "")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return "", &Error{Kind: KindUnreachable, Detail: strings.ReplaceAll(transport(err), "STS", "the federation endpoint"), Retryable: true, ctx: contextError(err),
			Hint: "check the way from the broker to " + req.URL.Host + ": name, proxy, firewall, certificate"}
	}
	body, err := readAnswer(resp)
	if err != nil {
		return "", &Error{Kind: KindUnreachable, Detail: "the exchange with the federation endpoint broke off", Retryable: true, ctx: contextError(err)}
	}
	switch {
	case resp.StatusCode >= 500:
		return "", &Error{Kind: KindUnavailable, Detail: fmt.Sprintf("the federation endpoint answers %d", resp.StatusCode), Retryable: true, Hint: hints[KindUnavailable]}
	case resp.StatusCode != http.StatusOK:
		return "", &Error{Kind: KindRejected, Detail: fmt.Sprintf("the federation endpoint refuses the session (%d)", resp.StatusCode), Hint: refusedHint(form)}
	}
	var answer struct{ SigninToken string }
	if json.NewDecoder(strings.NewReader(string(body))).Decode(&answer) != nil || answer.SigninToken == "" {
		return "", &Error{Kind: KindAnswer, Detail: "the answer of the federation endpoint holds no sign-in token", Hint: "check aws.federation_endpoint of the broker's configuration"}
	}
	return answer.SigninToken, nil
}

// refusedHint says what is known to make AWS refuse.
func refusedHint(form url.Values) string {
	if form.Has("SessionDuration") {
		return "AWS takes no SessionDuration where the broker is itself an assumed role: if it is one, write chained: true into aws of its configuration"
	}
	return "sign in once more; if it stays so, look at the role's policies and at those of the organisation"
}
