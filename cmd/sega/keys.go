package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/sshca"
)

func newKeys(a *app) *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "Register public keys of your own, which open hosts through the bastion without a certificate", GroupID: groupAccess, Args: cobra.ArbitraryArgs,
		Example: "  sega keys list\n  sega keys add ~/.ssh/id_ed25519.pub --name laptop\n  sega keys rm laptop",
		Long: "A registered key is good at the bastion alone, until it expires, and opens what policy names it for: it is no login, and has no second factor.\n" +
			"It ends with all that ends your access. With `sega ssh` you need none.",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("sega keys has no command %q", args[0])
			}
			return usagef("say what: sega keys list, sega keys add FILE, or sega keys rm NAME")
		}}
	c.AddCommand(newKeysList(a), newKeysAdd(a), newKeysRemove(a))
	return c
}

func newKeysList(a *app) *cobra.Command {
	var user string
	c := &cobra.Command{Use: "list", Short: "List your registered keys; security staff see everybody's", Args: atMost(0),
		Example: "  sega keys list\n  sega keys list --user alice@example.com\n  sega keys list --user '*'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.keys(cmd.Context(), user)
			if err != nil {
				return err
			}
			if a.json {
				return jsonLines(a.out, v)
			}
			var rows [][]string
			for _, k := range v {
				rows = append(rows, []string{k.Name, personName(k.Person), k.Type, k.Fingerprint, stamp(k.Expires), lastUse(k), k.ID})
			}
			return table(a.out, []string{"NAME", "PERSON", "TYPE", "FINGERPRINT", "EXPIRES", "LAST USED", "ID"}, rows)
		}}
	c.Flags().StringVar(&user, "user", "", "whose, by E-MAIL or sub:SUBJECT; '*' for everybody's")
	return c
}

func lastUse(k api.Key) string {
	if k.Used == nil {
		return "never"
	}
	return stamp(*k.Used)
}

// keys asks for keys, and keeps one's own for completion.
func (s *session) keys(ctx context.Context, user string) ([]api.Key, error) {
	v, err := s.Keys(ctx, user)
	if err == nil && user == "" {
		var entries []candidate
		for _, k := range v.Keys {
			entries = append(entries, candidate{Name: k.Name, Text: k.Type + " " + k.Fingerprint})
		}
		s.keepList(keysList, entries)
	}
	return v.Keys, err
}

func newKeysAdd(a *app) *cobra.Command {
	var key ownKeyOptions
	var name string
	var days int
	c := &cobra.Command{Use: "add FILE", Short: "Register a public key of your own, which signs that you have it", Args: exactly("FILE"),
		Example: "  sega keys add ~/.ssh/id_ed25519.pub --name laptop\n  sega keys add ~/.ssh/id_ed25519_sk --days 30",
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 0 || days > 3650 {
				return usagef("--days takes up to ten years")
			}
			key.file = args[0]
			return a.addKey(cmd.Context(), key, name, days)
		}}
	c.Flags().StringVar(&key.agent, "key-agent", "", "socket of the SSH agent that holds the private half, in place of SSH_AUTH_SOCK")
	c.Flags().StringVar(&name, "name", "", "what to call it (default: the file's name)")
	c.Flags().IntVar(&days, "days", 0, "for how long (default: as long as policy gives)")
	return c
}

func (a *app) addKey(ctx context.Context, o ownKeyOptions, name string, days int) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	k, err := a.ownKey(ctx, o)
	if err != nil {
		return err
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(k.path), ".pub")
	}
	proof, err := s.prove(ctx, k, api.ProofRegister)
	if err != nil {
		return err
	}
	wanted := time.Duration(days) * 24 * time.Hour
	v, err := s.RegisterKey(ctx, api.RegisterKeyRequest{PublicKey: sshca.MarshalLine(k.public), Name: name, Seconds: int(wanted / time.Second), Proof: proof})
	if err != nil {
		return err
	}
	_, _ = s.keys(ctx, "") // for completion, which does without it
	if a.json {
		return writeJSON(a.out, v)
	}
	fmt.Fprintf(a.err, "%s is registered as %s, good at the bastion until %s\n", v.Fingerprint, escape(v.Name), stamp(v.Expires))
	if v.Expires.Before(v.Created.Add(wanted)) {
		fmt.Fprintln(a.err, "policy gives no longer")
	}
	return nil
}

func newKeysRemove(a *app) *cobra.Command {
	var o revokeOptions
	var user string
	c := &cobra.Command{Use: "rm NAME", Short: "Remove a registered key; what it has opened ends", Args: exactly("NAME"),
		Example: "  sega keys rm laptop\n  sega keys rm key_abc… --user alice@example.com --reason 'laptop stolen'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.reason == "" && user == "" {
				o.reason = "no longer needed"
			}
			if strings.TrimSpace(o.reason) == "" {
				return usagef("to remove somebody else's key needs a reason: --reason TEXT")
			}
			return a.removeKey(cmd.Context(), args[0], user, o)
		}}
	c.Flags().StringVar(&user, "user", "", "whose, by E-MAIL or sub:SUBJECT")
	c.Flags().StringVar(&o.reason, "reason", "", "why")
	c.Flags().BoolVar(&o.yes, "yes", false, "do it without asking")
	return c
}

// removeKey finds the key that is meant by its name, its ID or its fingerprint, and revokes it.
func (a *app) removeKey(ctx context.Context, name, user string, o revokeOptions) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	all, err := s.keys(ctx, user)
	if err != nil {
		return err
	}
	var found []api.Key
	for _, k := range all {
		if k.Name == name || k.ID == name || k.Fingerprint == name {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 0:
		return withKind(api.KindNotFound, withHint(fmt.Errorf("there is no key %q", name), "run: sega keys list"))
	case len(found) > 1: // of several people
		return usagef("%d keys are called %q: name one by its ID; sega keys list --user %s shows them", len(found), name, user)
	}
	if err := a.revoke(ctx, api.RevokeRequest{Subject: api.SubjectKey, ID: found[0].ID, Reason: o.reason}, o); err != nil {
		return err
	}
	_, _ = s.keys(ctx, user) // for completion
	return nil
}
