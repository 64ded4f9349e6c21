package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/cmd/sega/agent"
	"sega/idp"
	"sega/keychain/secret"
)

// loginTime is how long a person may take in the browser.
const loginTime = 5 * time.Minute

type loginOptions struct {
	broker       string
	paste        bool
	device       bool
	acceptNewLog bool
}

func newLogin(a *app) *cobra.Command {
	var o loginOptions
	c := &cobra.Command{Use: "login [BROKER]", Short: "Log in through the company's identity provider", GroupID: groupAccess, Args: atMost(1),
		Example: "  sega login sega.corp.example\n  sega login --paste      # on a machine without a browser",
		Long: "Log in once a day. The browser ($BROWSER, or the system's) opens the identity provider's own page, which asks for MFA.\n" +
			"All else (issuer, roles, bastion) comes from the broker.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.broker = args[0]
			}
			if o.paste && o.device {
				return usagef("--paste and --device exclude each other")
			}
			return a.login(cmd.Context(), o)
		}}
	c.Flags().BoolVar(&o.paste, "paste", false, "open the page elsewhere and paste the final address here")
	c.Flags().BoolVar(&o.device, "device", false, "approve on another device by a code, where the broker allows it")
	c.Flags().BoolVar(&o.acceptNewLog, "accept-new-log", false, "trust a new audit log key or a restored log of this broker")
	return c
}

func (a *app) login(ctx context.Context, o loginOptions) error {
	origin, err := a.origin(o.broker)
	if err != nil {
		return err
	}
	config, err := a.configuration(ctx, origin, o.acceptNewLog)
	if err != nil {
		return err
	}
	if err := a.place(); err != nil {
		return err
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		return err
	}
	c, _, err := a.client(ctx, config.LogKey, client.Config{Origin: origin, Key: key})
	if err != nil {
		return err
	}
	s := saved{Origin: origin, LogKey: config.LogKey, Key: key, Issuer: config.Issuer, ClientID: config.ClientID}
	if o.device {
		s.Session, err = a.loginDevice(ctx, c)
	} else {
		s.Session, s.Refresh, err = a.loginCode(ctx, c, config, key, o.paste)
	}
	if err != nil {
		return err
	}
	old, _ := a.load()
	if err := a.keep(ctx, s, config); err != nil {
		return err
	}
	a.tellAgent(ctx, agent.OpReload)
	a.logoutOld(ctx, old)
	fmt.Fprintf(a.err, "logged in to %s as %s until %s (session %s)\n", origin, who(s.Session.Person), clock(s.Session.NotAfter), s.Session.LoginID)
	a.fetchLists(ctx)
	return nil
}

// configuration asks the broker what it is and holds it against what was pinned: a broker whose
// audit log has another key than at the first login is not believed.
func (a *app) configuration(ctx context.Context, origin string, acceptNewLog bool) (api.Configuration, error) {
	c, _, err := a.client(ctx, "", client.Config{Origin: origin})
	if err != nil {
		return api.Configuration{}, err
	}
	config, err := c.Configuration(ctx)
	if err != nil {
		return config, err
	}
	if config.Origin == "" {
		return config, kinded{fmt.Errorf("%s answers, and not as a sega broker does", origin), kindForeign}
	}
	if config.Origin != origin {
		return config, withKind(kindConfig, withHint(fmt.Errorf("the broker at %s says that it is %s", origin, escape(config.Origin)), "if that is your company's: sega login %s", config.Origin))
	}
	old, err := a.pinned()
	switch {
	case acceptNewLog:
		return config, a.dropCheckpoint(origin)
	case errors.Is(err, fs.ErrNotExist):
		return config, nil
	case err != nil:
		return config, err
	case old.Configuration.Origin == origin && old.Configuration.LogKey != config.LogKey:
		return config, withKind(kindUnverified, withHint(errors.New("the key of the broker's audit log is another than at your last login"),
			"ask the security staff; if it was changed on purpose: sega login --accept-new-log"))
	}
	return config, nil
}

func (a *app) dropCheckpoint(origin string) error {
	return a.writeFile(checkpointFile(origin), nil, 0o600)
}

// loginCode runs the authorization code flow; the nonce binds the ID token to this key and broker (R1).
func (a *app) loginCode(ctx context.Context, c *client.Client, config api.Configuration, key dpop.Key, paste bool) (api.Session, secret.Secret, error) {
	none := secret.Secret{}
	provider, err := idp.Discover(ctx, config.Issuer, &http.Client{Timeout: 20 * time.Second})
	if err != nil {
		return api.Session{}, none, err
	}
	random := make([]byte, 32)
	rand.Read(random)
	flow := idp.Login{ClientID: config.ClientID, Scopes: config.Scopes, ACRValues: config.ACRValues, Ports: config.RedirectPorts,
		Path: config.RedirectPath, Nonce: idp.Nonce(key.Thumbprint(), config.Origin, random)}
	lctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	method := api.MethodBrowser
	var tokens idp.Tokens
	if paste {
		method = api.MethodPaste
		tokens, err = provider.Paste(lctx, flow, a.showAddress, func(ctx context.Context) (string, error) {
			return a.readLine(ctx, "the address at which it ended: ")
		})
	} else {
		tokens, err = provider.Browser(lctx, flow, a.openBrowser)
	}
	if err != nil {
		return api.Session{}, none, err
	}
	session, err := c.Login(ctx, api.LoginRequest{IDToken: tokens.IDToken, AccessToken: tokens.AccessToken,
		Random: base64.RawURLEncoding.EncodeToString(random), Method: method, Client: userAgent()})
	return session, tokens.RefreshToken, err
}

func (a *app) openBrowser(address string) error {
	fmt.Fprintf(a.err, "opening your browser; if none appears, open:\n  %s\n", escape(address))
	err := idp.OpenBrowser(address)
	if errors.Is(err, idp.ErrNoBrowser) {
		return withHint(err, "run: sega login --paste")
	}
	return err
}

func (a *app) showAddress(address string) error {
	fmt.Fprintf(a.err, "open this address in a browser, on any machine, and log in:\n  %s\nThe last page will not load; copy its address.\n", escape(address))
	return nil
}

// readLine reads from the terminal, or from stdin where that is a pipe.
func (a *app) readLine(ctx context.Context, prompt string) (string, error) {
	line, err := a.ask(ctx, prompt)
	var usage usageError
	if !errors.As(err, &usage) {
		return line, err
	}
	return readFrom(a.stdin)
}

// loginDevice lets the broker run the device grant and waits for the person's approval.
func (a *app) loginDevice(ctx context.Context, c *client.Client) (api.Session, error) {
	start, err := c.DeviceStart(ctx)
	if err != nil {
		return api.Session{}, err
	}
	fmt.Fprintf(a.err, "on any device open %s\nand compare the code:  %s\n", escape(start.VerificationURI), escape(start.UserCode))
	interval := time.Duration(max(start.Interval, 1)) * time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return api.Session{}, errCancelled
		case <-timer.C:
		}
		session, err := c.DevicePoll(ctx, api.DevicePoll{Handle: start.Handle, Client: userAgent()})
		switch {
		case err == nil:
			return session, nil
		case api.IsKind(err, api.KindSlowDown):
			interval += 5 * time.Second
		case api.IsKind(err, api.KindUnreachable):
			interval = min(2*interval, time.Minute)
		case !api.IsKind(err, api.KindPending):
			return session, err
		}
		timer.Reset(interval)
	}
}

// keep stores the session, drops what belonged to the last one, and pins the broker.
func (a *app) keep(ctx context.Context, s saved, config api.Configuration) error {
	done, err := a.turn(ctx, pinnedFile)
	if err != nil {
		return err
	}
	defer done()
	store, err := a.secrets()
	if err != nil {
		return err
	}
	sealed, err := s.seal()
	if err != nil {
		return err
	}
	err = store.Update(func(items map[string]secret.Secret) error {
		clear(items)
		items[itemSession] = sealed
		return nil
	})
	if err != nil {
		return err
	}
	if err := errors.Join(a.dropSSH(), a.dropLists()); err != nil {
		return err
	}
	return a.pin(pinned{Configuration: config, Updated: a.now().UTC()})
}

// logoutOld ends the session that the new one replaces, where it still lives; that it does not is
// no reason to fail a login.
func (a *app) logoutOld(ctx context.Context, old saved) {
	if old.Session.LoginID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = a.endSession(ctx, old)
}

// endSession ends a session at the broker. The log's checkpoint is not looked at: on a disk that is full
// it cannot be kept, and the session is to end all the same.
func (a *app) endSession(ctx context.Context, s saved) error {
	c, _, err := a.client(ctx, "", client.Config{Origin: s.Origin, Key: s.Key, Token: func() secret.Secret { return s.Session.Token }})
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Logout(ctx)
	if api.IsKind(err, api.KindUnauthenticated) || api.IsKind(err, api.KindRevoked) {
		return nil // it has ended already
	}
	return err
}

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{Use: "logout", Aliases: []string{"clear"}, Short: "End the session at the broker and at the identity provider, and forget every credential here", GroupID: groupAccess, Args: atMost(0),
		Example: "  sega logout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if noSession(err) {
				fmt.Fprintln(a.err, "you are not logged in")
				return a.dropLists()
			}
			if err == nil {
				err = a.endSession(cmd.Context(), s.saved())
				s.revokeRefresh(cmd.Context())
			}
			forgetErr := cmp.Or(a.forget(), a.dropSSH(), a.dropLists())
			a.tellAgent(cmd.Context(), agent.OpForget) // which finds nothing to open any more
			if forgetErr != nil {
				return fmt.Errorf("%s, but what is stored on this machine was not removed: %w", told(err), forgetErr)
			}
			if err != nil {
				return fmt.Errorf("forgotten on this machine, but the broker was not told: %w", err)
			}
			fmt.Fprintln(a.err, "logged out")
			return nil
		}}
}

func told(err error) string {
	if err != nil {
		return "the broker was not told"
	}
	return "the session has ended"
}

// revokeRefresh takes the refresh token back at the IdP, as well as that goes (RFC 7009).
func (s *session) revokeRefresh(ctx context.Context) {
	if s.saved().Refresh.Empty() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	provider, err := idp.Discover(ctx, s.saved().Issuer, &http.Client{Timeout: 5 * time.Second})
	if err == nil {
		err = provider.Revoke(ctx, s.saved().ClientID, s.saved().Refresh)
	}
	if err != nil {
		fmt.Fprintf(s.app.err, "sega: the identity provider did not take the refresh token back: %s\n", escape(err.Error()))
	}
}

func who(p api.Person) string {
	if p.Email != "" {
		return escape(p.Email)
	}
	return escape(p.Subject)
}

// clock shows a time of today short and another whole.
func clock(t time.Time) string {
	local := t.Local()
	if time.Until(t) < 20*time.Hour {
		return local.Format("15:04")
	}
	return local.Format(strings.TrimSuffix(time.DateTime, ":05"))
}
