package awssts

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// AWS's grammars (STS API reference, AssumeRole). The SDK checks none of them, so a bad parameter
// would cost a call and come back as a ValidationError that quotes it.
var (
	roleRule     = regexp.MustCompile(`\Aarn:aws(-[a-z]+)*:iam::[0-9]{12}:role/([\x21-\x7e]+/)*[\w+=,.@-]{1,64}\z`)
	externalRule = regexp.MustCompile(`\A[\w+=,.@:/-]+\z`)
	tagRule      = regexp.MustCompile(`\A[\p{L}\p{Z}\p{N}_.:/=+\-@]*\z`)
	tagOther     = regexp.MustCompile(`[^\p{L}\p{Z}\p{N}_.:/=+\-@]`)
)

// Limits of tags, in characters.
const (
	maxTagKey   = 128
	maxTagValue = 256
)

// validate checks every parameter against AWS's grammar. Its errors quote no value: they may hold
// what somebody typed.
func (c Call) validate() error {
	switch {
	case len(c.RoleARN) < 20 || len(c.RoleARN) > 2048 || !roleRule.MatchString(c.RoleARN):
		return invalid("the role's ARN is not one of an IAM role", "write it as arn:aws:iam::111122223333:role/NAME in the broker's configuration")
	case !nameRule.MatchString(c.SessionName):
		return invalid("the session name does not fit AWS's grammar", "")
	case !nameRule.MatchString(c.SourceIdentity):
		return invalid("the source identity does not fit AWS's grammar", "")
	case c.ExternalID != "" && (len(c.ExternalID) < 2 || len(c.ExternalID) > 1224 || !externalRule.MatchString(c.ExternalID)):
		return invalid("the external ID of this role does not fit AWS's grammar", "it takes 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -")
	case c.Duration < MinDuration || c.Duration > MaxDuration || c.Duration%time.Second != 0:
		return invalid("the session's length is outside 15m to 12h", "")
	}
	if err := c.validateWeb(); err != nil {
		return err
	}
	if err := c.Narrow.Validate(c.RoleARN); err != nil {
		return err
	}
	return validateTags(c.Tags)
}

func validateTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		fold := strings.ToLower(t.Key)
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey || !fits(t.Key) || seen[fold]:
			return invalid("a session tag's key does not fit AWS's grammar or stands twice", "")
		case utf8.RuneCountInString(t.Value) > maxTagValue || !fits(t.Value):
			return invalid("the value of session tag "+t.Key+" does not fit AWS's grammar", "")
		case t.Value == "":
			return invalid("session tag "+t.Key+" is empty", "a session must name its login and its request")
		}
		seen[fold] = true
	}
	return nil
}

// fits reports whether s is valid UTF-8 of the characters that a tag takes. RE2 reads a broken
// byte as U+FFFD, which is in none of the classes.
func fits(s string) bool { return utf8.ValidString(s) && tagRule.MatchString(s) }

// tagValue returns s as a tag's value: every other character replaced by '_', cut at 256.
func tagValue(s string) string {
	r := []rune(tagOther.ReplaceAllString(s, "_"))
	return string(r[:min(len(r), maxTagValue)])
}
