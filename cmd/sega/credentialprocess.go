package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

const (
	// processTime is how long credential-process may take: SDKs give up after a minute, and say less.
	processTime = 50 * time.Second
	// processMarker is in the environment of all that credential-process starts: a profile that a
	// keyring's or a browser's helper uses could name sega again, and so on for ever.
	processMarker = "SEGA_CREDENTIAL_PROCESS"
)

func newCredentialProcess(a *app) *cobra.Command {
	var o roleOptions
	c := &cobra.Command{Use: "credential-process ROLE", Aliases: []string{"cred-process"}, Short: "Print a role's credentials as AWS's credential_process wants them", GroupID: groupAccess, Args: exactly("ROLE"),
		Example: "  # ~/.aws/config\n  [profile dev-admin]\n  credential_process = sega credential-process dev-admin",
		Long: "Print a role's credentials as AWS's credential_process wants them (version 1), or nothing: what fails is told on stderr, what is asked on the terminal.\n" +
			"It ends after 50 seconds at the latest.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := o.request(args[0])
			if err != nil {
				return err
			}
			if a.getenv(processMarker) != "" {
				return withKind(kindConfig, withHint(errors.New("sega credential-process was started by what it had started itself"), "in ~/.aws/config, take it out of the profile that this program uses"))
			}
			if err := os.Setenv(processMarker, "1"); err != nil {
				return err
			}
			return a.credentialProcess(cmd.Context(), r)
		}}
	o.flags(c)
	return c
}

func (a *app) credentialProcess(ctx context.Context, r api.CredentialsRequest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, processTime, api.Errorf(api.KindUnreachable, "there were no credentials within %s", processTime).WithHint("run: sega status"))
	defer cancel()
	type answer struct {
		form []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() { // ends with the process where a keyring hangs
		form, err := a.processForm(ctx, r)
		got <- answer{form, err}
	}()
	var v answer
	select {
	case v = <-got:
	case <-ctx.Done():
		v.err = ctx.Err()
	}
	if v.err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if v.err == nil {
		_, v.err = a.out.Write(v.form)
	}
	return v.err
}
