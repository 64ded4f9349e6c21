package awssts

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Config says where STS is and who the broker is there.
type Config struct {
	Region   string
	Endpoint string // empty: AWS's own for the region; https, or http on loopback
	// Credentials are the broker's own; nil: the SDK's default chain (web identity, container,
	// instance role, environment, profile).
	Credentials aws.CredentialsProvider
	Chained     *bool // whether the broker is an assumed role itself; nil: ask AWS
	// Tokens signs for roles in the mode web-identity; nil: there are none. With Keyless there are no
	// others: no credentials of the broker are looked for, and AWS is not asked who it is.
	Tokens  TokenSigner
	Keyless bool
	// HTTP may be nil: one of its own. Where it is set and Credentials are not, AWS_CA_BUNDLE must
	// be unset: the SDK's chain cannot put a bundle into a client that it did not make.
	HTTP    *http.Client
	Timeout time.Duration // of one call with its retries; zero: 15 s
	Now     func() time.Time
}

// Minter makes sessions. It is safe for use by many goroutines.
type Minter struct {
	client  *sts.Client
	http    *http.Client
	timeout time.Duration
	now     func() time.Time
	tokens  TokenSigner // nil: no web identity
	keyless bool        // nothing but web identity

	mu     sync.Mutex
	caller caller
}

// caller is what is known of the broker at AWS.
type caller struct {
	known   bool
	chained bool
	arn     string // empty where the configuration said whether it is chained
}

var regionRule = regexp.MustCompile(`\A[a-z]{2}(-[a-z]+)+-[0-9]{1,2}\z`)

// New makes a Minter. Where cfg does not say whether the broker is an assumed role, it asks AWS;
// an AWS that cannot be reached is no reason not to start, so the answer is then sought again at
// each call, and until it comes sessions are held to role chaining's hour. Credentials that AWS
// refuses are an error, an *Error.
func New(ctx context.Context, cfg Config) (*Minter, error) {
	if !regionRule.MatchString(cfg.Region) {
		return nil, invalid("the region is not one of AWS", "set it in the broker's configuration, e.g. eu-central-1")
	}
	if err := checkEndpoint(cfg.Endpoint); err != nil {
		return nil, err
	}
	m := &Minter{http: noRedirect(cfg.HTTP), timeout: cfg.Timeout, now: cfg.Now, tokens: cfg.Tokens, keyless: cfg.Keyless}
	if m.timeout == 0 {
		m.timeout = 15 * time.Second
	}
	if m.now == nil {
		m.now = time.Now
	}
	creds, err := credentials(ctx, cfg)
	if err != nil {
		return nil, err
	}
	m.client = sts.New(options(cfg, creds, m.http))
	if cfg.Keyless {
		return m, nil
	}
	if cfg.Chained != nil {
		m.caller = caller{known: true, chained: *cfg.Chained}
		return m, nil
	}
	if err := m.learn(ctx); err != nil && !err.Retryable {
		return nil, err
	}
	return m, nil
}

// options builds the client's options by hand: sts.NewFromConfig would take an endpoint from
// AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS or a profile, and so send signed requests elsewhere.
func options(cfg Config, creds aws.CredentialsProvider, h *http.Client) sts.Options {
	o := sts.Options{Region: cfg.Region, Credentials: creds, HTTPClient: h,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Second })}
	if cfg.Endpoint != "" {
		o.BaseEndpoint = aws.String(cfg.Endpoint)
	}
	return o
}

// credentials returns the broker's own, from cfg or from the SDK's chain. The chain may call STS
// itself (web identity, a profile's role); only an endpoint named here comes before that of the
// environment there, so AWS's own is spelt out.
func credentials(ctx context.Context, cfg Config) (aws.CredentialsProvider, error) {
	if cfg.Keyless {
		return aws.AnonymousCredentials{}, nil
	}
	if cfg.Credentials != nil {
		return aws.NewCredentialsCache(cfg.Credentials), nil
	}
	endpoint := cfg.Endpoint
	if endpoint == "" {
		e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: aws.String(cfg.Region),
			UseFIPS: aws.Bool(false), UseDualStack: aws.Bool(false), UseGlobalEndpoint: aws.Bool(false)})
		if err != nil {
			return nil, invalid("AWS has no STS endpoint for the region", "set another region in the broker's configuration")
		}
		endpoint = e.URI.String()
	}
	opts := []func(*config.LoadOptions) error{config.WithRegion(cfg.Region), config.WithBaseEndpoint(endpoint)}
	if cfg.HTTP != nil {
		opts = append(opts, config.WithHTTPClient(cfg.HTTP))
	}
	c, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil { // its text may repeat lines of a credentials file
		return nil, &Error{Kind: KindCredentials, Detail: "the broker's own AWS configuration could not be loaded",
			Hint: "check AWS_* and the AWS profile of the broker's service with `aws configure list`"}
	}
	return c.Credentials, nil
}

// checkEndpoint accepts nothing that would send a signed request in the clear to another machine.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	bad := invalid("the STS endpoint is not an https address", "write https://HOST[:PORT], or http:// with a loopback address for a test double")
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return bad
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return bad
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() && net.ParseIP(host) != nil
}

// learn asks AWS who the broker is, once.
func (m *Minter) learn(ctx context.Context) *Error {
	if m.who().known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	w := &wire{next: m.http}
	out, err := m.client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) { o.HTTPClient = w })
	if err != nil {
		e := classify(err, w, Call{}, "")
		e.Detail, e.Ambiguous = "ask AWS who the broker is: "+e.Detail, false
		return e
	}
	arn := aws.ToString(out.Arn)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.caller = caller{known: true, chained: isSession(arn), arn: arn}
	return nil
}

var sessionARN = regexp.MustCompile(`\Aarn:aws(-[a-z]+)*:(sts::[0-9]{12}:assumed-role/|iam::[0-9]{12}:role/)`)

// isSession reports whether the caller is an assumed role. An ARN that tells nothing counts as one.
func isSession(arn string) bool { return arn == "" || sessionARN.MatchString(arn) }

func (m *Minter) who() caller {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.caller
}

// Chained reports whether the broker is an assumed role at AWS, and whether that is known.
func (m *Minter) Chained() (chained, known bool) {
	c := m.who()
	return c.chained || !c.known, c.known
}

// String tells nothing of the credentials.
func (m *Minter) String() string { return fmt.Sprintf("awssts.Minter(%s)", m.who().arn) }
