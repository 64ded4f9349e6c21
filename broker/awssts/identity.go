package awssts

import (
	"fmt"
	"regexp"
)

// Identity is a person as the broker verified them. It never holds what a client typed.
type Identity struct {
	Email   string // verified by the IdP; may be empty
	Subject string // the IdP's sub, unique for its issuer
}

// nameRule is AWS's grammar of SourceIdentity and RoleSessionName; its \w is ASCII, as RE2's is.
var nameRule = regexp.MustCompile(`\A[\w+=,.@-]{2,64}\z`)

// SourceIdentity returns the name under which AWS records the person: the e-mail where it fits the
// grammar exactly, else the subject, else an error of KindInvalid (R2). Nothing is ever cut or
// replaced: two people must not end up with one name.
func SourceIdentity(id Identity) (string, error) {
	if nameRule.MatchString(id.Email) {
		return id.Email, nil
	}
	if nameRule.MatchString(id.Subject) {
		return id.Subject, nil
	}
	return "", invalid(
		fmt.Sprintf("neither the e-mail (%d bytes) nor the subject (%d bytes) of this identity can name an AWS session", len(id.Email), len(id.Subject)),
		"AWS takes 2 to 64 of A-Z a-z 0-9 _ + = , . @ - ; give the person such an e-mail or subject at the IdP")
}

// SessionName returns the RoleSessionName: the person, by the rule of SourceIdentity, so that the
// assumed-role ARN in CloudTrail and in error messages tells who it is. Two sessions of one person
// differ by their access key ID and by the tag sega_login.
func SessionName(id Identity) (string, error) { return SourceIdentity(id) }
