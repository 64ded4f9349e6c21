//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/cmd/segad/dev"
	"sega/cmd/segad/dev/browser"
)

// devUser tells the scripted browser whom it is.
const devUser = "SEGA_DEV_USER"

func newDev() *cobra.Command {
	return group(&cobra.Command{Use: "dev", Short: "Run everything on loopback, for trying and testing", Example: "  segad dev up --data ./dev"},
		newDevUp(), newDevEnv(), newDevLogin(), newDevBrowser())
}

func newDevUp() *cobra.Command {
	var data, database, password string
	var life, alive time.Duration
	c := &cobra.Command{Use: "up", Short: "Start provider, STS double, broker, bastion and a host; stop with Ctrl-C", Args: exactly(0), Example: "  segad dev up --data ./dev",
		Long: "Start everything on loopback, on free ports, with people and keys made up for the folder. When all answer, DIR/dev.json says how to use it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return dev.Up(cmd.Context(), dev.Options{Data: data, Self: self, Log: newLogger(), Out: cmd.OutOrStdout(), Database: database, DatabasePassword: password, SessionLife: life, KeepAlive: alive})
		}}
	c.Flags().StringVar(&data, "data", defaultData(), "folder of keys, database, recordings and logs")
	c.Flags().StringVar(&database, "database", "", "database of the broker, as in broker.yaml: a path, sqlite:PATH or a URL of PostgreSQL (default sega.db in the folder)")
	c.Flags().DurationVar(&alive, "keepalive", 0, "let the bastion ask a silent client for a sign of life after so long (default 15s)")
	c.Flags().DurationVar(&life, "aws-life", 0, "let every AWS session end after so long, whatever was asked for, to see what outlives it (default as asked for)")
	c.Flags().StringVar(&password, "database-password", "", "file of the password for --database, mode 0600")
	return c
}

// defaultData is SEGA_DEV, or a folder in the person's cache.
func defaultData() string {
	if dir := os.Getenv("SEGA_DEV"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "sega-dev")
	}
	return "sega-dev"
}

func newDevEnv() *cobra.Command {
	var data string
	c := &cobra.Command{Use: "env", Short: "Print what a shell must export to use a running environment", Args: exactly(0), Example: "  eval \"$(segad dev env --data ./dev)\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := dev.Read(data)
			if err != nil {
				return err
			}
			var names []string
			for name := range d.Env {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				fmt.Fprintf(cmd.OutOrStdout(), "export %s='%s'\n", name, strings.ReplaceAll(d.Env[name], "'", `'\''`))
			}
			return nil
		}}
	c.Flags().StringVar(&data, "data", defaultData(), "folder of the environment")
	return c
}

func newDevLogin() *cobra.Command {
	c := &cobra.Command{Use: "login EMAIL [-- SEGA-LOGIN-FLAGS]", Short: "Run `sega login` with a scripted browser that knows the person's password and second factor",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%w: EMAIL is missing", errUsage)
			}
			return nil
		}, Example: "  segad dev login alice@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := dev.Read(defaultData())
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			sega, err := beside(self, "sega")
			if err != nil {
				return err
			}
			login := exec.CommandContext(cmd.Context(), sega, append([]string{"login"}, args[1:]...)...)
			login.Stdin, login.Stdout, login.Stderr = os.Stdin, os.Stdout, os.Stderr
			login.Env = os.Environ()
			for name, value := range d.Env {
				login.Env = append(login.Env, name+"="+value)
			}
			login.Env = append(login.Env, "BROWSER='"+self+"' dev browser %s", devUser+"="+args[0])
			err = login.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return codeError(exit.ExitCode())
			}
			return err
		}}
	return c
}

// beside finds a program in our folder, else on PATH.
func beside(self, name string) (string, error) {
	if path := filepath.Join(filepath.Dir(self), name); exec.Command(path).Err == nil {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

func newDevBrowser() *cobra.Command {
	return &cobra.Command{Use: "browser URL", Short: "Follow a login page's forms as the person that SEGA_DEV_USER names", Args: exactly(1), Example: "  SEGA_DEV_USER=alice@example.com BROWSER='segad dev browser %s' sega login",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := dev.Read(defaultData())
			if err != nil {
				return err
			}
			for _, u := range d.Users {
				if u.Email == os.Getenv(devUser) {
					return browser.Visit(cmd.Context(), args[0], browser.Credentials{Email: u.Email, Password: u.Password, TOTPSecret: u.TOTPSecret})
				}
			}
			return fmt.Errorf("nobody here is called %q; set %s to one of the people of dev.json", os.Getenv(devUser), devUser)
		}}
}
