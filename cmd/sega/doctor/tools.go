package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// release is the first two numbers of a program's version.
type release struct{ major, minor int }

func (r release) below(other release) bool {
	return r.major < other.major || r.major == other.major && r.minor < other.minor
}

// How programs say their release. They are compiled where they are used: a package that is initialised
// costs every command of sega.
const (
	sshRelease = `OpenSSH_(?:for_Windows_)?(\d+)\.(\d+)`
	awsRelease = `aws-cli/(\d+)\.(\d+)`
)

// Releases that are needed. OpenSSH 7.3 has ProxyJump and IdentityAgent, 8.9 binds an agent's signatures
// to the host (session-bind@openssh.com; its release notes). The AWS CLI of version 1 knows
// credential_process since the end of 2017.
var (
	sshNeeded = release{7, 3}
	sshBinds  = release{8, 9}
	awsNeeded = release{1, 16}
)

// releaseOf asks a program for its version. It gets no input, and no terminal to ask on.
func releaseOf(ctx context.Context, pattern string, argv ...string) (r release, path string, err error) {
	if path, err = exec.LookPath(argv[0]); err != nil {
		return r, "", err
	}
	c := exec.CommandContext(ctx, path, argv[1:]...)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	m := regexp.MustCompile(pattern).FindStringSubmatch(string(out))
	if m == nil {
		return r, path, fmt.Errorf("%s does not say its version: %w", path, err)
	}
	r.major, _ = strconv.Atoi(m[1]) // the pattern has digits alone
	r.minor, _ = strconv.Atoi(m[2])
	return r, path, nil
}

// ssh looks at the OpenSSH client.
func (x *exam) ssh(ctx context.Context) []Finding {
	r, path, err := releaseOf(ctx, sshRelease, "ssh", "-V")
	const mend = "install a newer OpenSSH client"
	switch {
	case path == "":
		return one(warning("install the OpenSSH client", "there is no ssh on this machine's PATH: sega ssh needs it"))
	case err != nil:
		return one(warning(mend, "%s is no OpenSSH client, or does not say so", path))
	case r.below(sshNeeded):
		return one(failing(mend, "%s is OpenSSH %d.%d: sega ssh needs 7.3", path, r.major, r.minor))
	case r.below(sshBinds):
		return one(warning(mend, "%s is OpenSSH %d.%d: before 8.9 the agent signs nothing for it", path, r.major, r.minor))
	}
	return one(good("%s is OpenSSH %d.%d", path, r.major, r.minor))
}

// awsCLI looks at AWS's own command, where it is installed.
func (x *exam) awsCLI(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, path, err := releaseOf(ctx, awsRelease, "aws", "--version")
	const mend = "install version 2 of the AWS CLI"
	switch {
	case path == "":
		return one(good("the AWS CLI is not installed, and sega does not need it"))
	case err != nil:
		return one(warning("run it by hand: aws --version", "%s does not say its version", path))
	case r.below(awsNeeded):
		return one(failing(mend, "%s is version %d.%d, which is too old for credential_process", path, r.major, r.minor))
	}
	return one(good("%s is version %d.%d: it knows credential_process and the container endpoint", path, r.major, r.minor))
}

// others are tools for the same work, by a variable that their shells set or a program of theirs.
var others = []struct{ name, variable string }{
	{"aws-okta", "AWS_OKTA_PROFILE"}, {"aws-vault", "AWS_VAULT"}, {"saml2aws", "SAML2AWS_PROFILE"}, {"granted", "AWS_PROFILE_GRANTED"}, {"okta-aws-cli", "OKTA_AWSCLI_ORG_DOMAIN"},
}

// rivals hints at what other tools have left: it fails nothing.
func (x *exam) rivals(context.Context) []Finding {
	var found []Finding
	for _, o := range others {
		if x.Getenv(o.variable) != "" {
			found = append(found, warning("leave the shell of "+o.name+", or: unset "+o.variable, "%s is at work in this shell (%s)", o.name, o.variable))
		}
	}
	if files, err := x.AWS(); err == nil && len(files.Rivals) > 0 {
		f := good("profiles that ask other tools: %s", strings.Join(files.Rivals, ", "))
		f.Mend = "to take them over: sega configure --import"
		found = append(found, f)
	}
	return orGood(found, "no other tool is in the way")
}
