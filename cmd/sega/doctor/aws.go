package doctor

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"
)

// awsFiles looks for what keeps AWS's tools from asking sega.
func (x *exam) awsFiles(context.Context) []Finding {
	files, err := x.AWS()
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	}
	var found []Finding
	for _, s := range files.Hidden {
		found = append(found, failing("delete that line; sega configure does not touch it", "%s", s))
	}
	for _, s := range files.First {
		found = append(found, warning("give that section another name", "%s comes before the endpoint of sega exec, which gives credentials that end instead", s))
	}
	switch {
	case len(files.Profiles) == 0:
		return orGood(found, "there are no profiles for AWS's tools; to have some: sega configure")
	case files.Ours == 0:
		return orGood(found, "none of %d profiles asks sega; to have some: sega configure", len(files.Profiles))
	}
	return orGood(found, "%d of %d profiles ask sega, and nothing hides them", files.Ours, len(files.Profiles))
}

// keys are the variables that hold credentials and win over every profile.
var keys = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION"}

// awsEnvironment looks for variables of AWS's in this shell that win over what sega gives.
func (x *exam) awsEnvironment(context.Context) []Finding {
	var found []Finding
	ours := x.Getenv("SEGA_ROLE") != ""
	if x.Getenv("AWS_ACCESS_KEY_ID") != "" || x.Getenv("AWS_SECRET_ACCESS_KEY") != "" {
		mend := "unset " + strings.Join(slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return x.Getenv(k) == "" }), " ")
		end, err := time.Parse(time.RFC3339, x.Getenv("AWS_CREDENTIAL_EXPIRATION"))
		switch {
		case err == nil && x.Now().After(end):
			found = append(found, failing(mend, "the AWS credentials in this shell expired on %s, and win over every profile", moment(end)))
		case !ours:
			found = append(found, warning(mend, "AWS credentials that are not sega's stand in this shell, and win over every profile"))
		}
	}
	for _, name := range []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"} {
		if x.Getenv(name) != "" && !ours {
			found = append(found, warning("unset "+name, "%s is set in this shell, and not by sega", name))
		}
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		if path := x.Getenv(name); path != "" {
			if _, err := os.Stat(path); err != nil {
				found = append(found, warning("unset "+name, "%s names a file that cannot be read: %s", name, path))
			}
		}
	}
	return orGood(append(found, x.profile()...), "nothing in this shell wins over what sega gives")
}

// profile looks whether the profile that this shell asks for is there.
func (x *exam) profile() []Finding {
	name, variable := x.Getenv("AWS_PROFILE"), "AWS_PROFILE"
	if name == "" {
		name, variable = x.Getenv("AWS_DEFAULT_PROFILE"), "AWS_DEFAULT_PROFILE"
	}
	if name == "" {
		return nil
	}
	files, err := x.AWS()
	if err != nil || slices.Contains(files.Profiles, name) {
		return nil
	}
	return one(failing("unset "+variable+", or have it made: sega configure", "%s names the profile %q, which is in no file", variable, name))
}
