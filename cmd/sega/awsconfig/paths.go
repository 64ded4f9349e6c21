package awsconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// ConfigPath is AWS_CONFIG_FILE, else ~/.aws/config.
func ConfigPath(getenv func(string) string) (string, error) {
	return path(getenv, "AWS_CONFIG_FILE", ".aws/config")
}

// CredentialsPath is AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials.
func CredentialsPath(getenv func(string) string) (string, error) {
	return path(getenv, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
}

// SAML2AWSPath is SAML2AWS_CONFIGFILE, else ~/.saml2aws.
func SAML2AWSPath(getenv func(string) string) (string, error) {
	return path(getenv, "SAML2AWS_CONFIGFILE", ".saml2aws")
}

func path(getenv func(string) string, variable, name string) (string, error) {
	set := getenv(variable)
	rest, below := strings.CutPrefix(set, "~/") // botocore knows it, and it comes from files that no shell has read
	if set != "" && !below {
		return filepath.Abs(set)
	}
	home := homeDir(getenv)
	if home == "" {
		return "", errors.New("no home folder is known: set " + variable)
	}
	if below {
		return filepath.Join(home, rest), nil
	}
	return filepath.Join(home, filepath.FromSlash(name)), nil
}

func homeDir(getenv func(string) string) string {
	if home := getenv("HOME"); home != "" {
		return home
	}
	home, _ := os.UserHomeDir() // elsewhere than on Unix another variable names it
	return home
}
