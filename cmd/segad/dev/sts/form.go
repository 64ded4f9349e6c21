package sts

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const version = "2011-06-15"

// form holds the parameters of a call, each once; lists lie apart.
type form struct {
	action string
	values map[string]string
	tags   []tag
	keys   []string // TransitiveTagKeys
	arns   []string // PolicyArns
}

type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// parameters lists what each action takes beside Action, Version and its lists.
var parameters = map[string][]string{
	"GetCallerIdentity": {},
	"AssumeRole": {"RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "SourceIdentity", "Policy",
		"SerialNumber", "TokenCode"},
	withWebIdentity: {"RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "WebIdentityToken"},
}

// parseForm reads the query protocol's parameters from encoded, strictly.
func parseForm(encoded string) (form, *fault) {
	values, err := url.ParseQuery(encoded)
	if err != nil {
		return form{}, malformed("The query string is not well formed")
	}
	for k, v := range values {
		if len(v) != 1 {
			return form{}, malformed("Parameter " + strconv.Quote(k) + " is given more than once")
		}
	}
	f := form{action: values.Get("Action"), values: map[string]string{}}
	allowed, ok := parameters[f.action]
	switch {
	case f.action == "":
		return form{}, &fault{"MissingAction", http.StatusBadRequest, "Missing Action"}
	case !ok || values.Get("Version") != version:
		return form{}, &fault{"InvalidAction", http.StatusBadRequest, "Could not find operation " + f.action + " for version " + orNone(values.Get("Version"))}
	}
	lists := url.Values{}
	for k, v := range values {
		switch {
		case k == "Action" || k == "Version":
		case slices.Contains(allowed, k):
			f.values[k] = v[0]
		case f.action == "AssumeRole" && strings.Contains(k, ".member."), f.action == withWebIdentity && strings.HasPrefix(k, "PolicyArns.member."):
			lists[k] = v
		default:
			return form{}, malformed("Unknown parameter " + strconv.Quote(k))
		}
	}
	return f, f.takeLists(lists)
}

func orNone(version string) string {
	if version == "" {
		return "NO_VERSION_SPECIFIED"
	}
	return version
}

func malformed(msg string) *fault {
	return &fault{"InvalidQueryParameter", http.StatusBadRequest, msg}
}

// maxMembers is more than any list of AssumeRole may have; longer ones are refused later by their
// own limit, so one more must be readable.
const maxMembers = 51

// takeLists moves NAME.member.1… out of left, from 1 without gaps, and refuses what remains.
func (f *form) takeLists(left url.Values) *fault {
	take := func(k string) (string, bool) {
		v, ok := left[k]
		delete(left, k)
		if !ok {
			return "", false
		}
		return v[0], true
	}
	for i := 1; i <= maxMembers; i++ {
		n := ".member." + strconv.Itoa(i)
		if k, ok := take("TransitiveTagKeys" + n); ok && len(f.keys) == i-1 {
			f.keys = append(f.keys, k)
		} else if ok {
			return malformed("TransitiveTagKeys has a gap")
		}
		if a, ok := take("PolicyArns" + n + ".arn"); ok && len(f.arns) == i-1 {
			f.arns = append(f.arns, a)
		} else if ok {
			return malformed("PolicyArns has a gap")
		}
		key, haveKey := take("Tags" + n + ".Key")
		value, haveValue := take("Tags" + n + ".Value")
		if haveKey != haveValue {
			return constraint("tags."+strconv.Itoa(i)+".member", "Member must have a key and a value")
		}
		if haveKey && len(f.tags) == i-1 {
			f.tags = append(f.tags, tag{key, value})
		} else if haveKey {
			return malformed("Tags has a gap")
		}
	}
	for k := range left {
		return malformed("Unknown parameter " + strconv.Quote(k))
	}
	return nil
}

// encode is the inverse of parseForm.
func (f form) encode() string {
	v := url.Values{"Action": {f.action}, "Version": {version}}
	for k, s := range f.values {
		v.Set(k, s)
	}
	for i, t := range f.tags {
		n := "Tags.member." + strconv.Itoa(i+1)
		v.Set(n+".Key", t.Key)
		v.Set(n+".Value", t.Value)
	}
	for i, k := range f.keys {
		v.Set("TransitiveTagKeys.member."+strconv.Itoa(i+1), k)
	}
	for i, a := range f.arns {
		v.Set("PolicyArns.member."+strconv.Itoa(i+1)+".arn", a)
	}
	return v.Encode()
}
