package main

import (
	"slices"
	"strings"

	"sega/cmd/sega/agent"
	"sega/cmd/sega/endpoint"
)

// stale are the variables that must never reach a child beside ours (design.md §5).
var stale = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}

const stalePrefix = "AWS_CONTAINER_"

// staleVariables are stale and those with the prefix, by name.
var staleVariables = append(slices.Clone(stale), "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")

// variables are the environment of fixed credentials.
func variables(g granted) [][2]string {
	return [][2]string{
		{"AWS_ACCESS_KEY_ID", g.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", string(g.SecretAccessKey.Reveal())},
		{"AWS_SESSION_TOKEN", string(g.SessionToken.Reveal())}, {"AWS_CREDENTIAL_EXPIRATION", endpoint.Expiration(g.Expiration)},
		{"SEGA_ROLE", g.Role}, {"SEGA_SESSION", g.LoginID},
	}
}

// endpointVariables are the environment of credentials that an endpoint gives. No key stands beside
// them: SDKs would take it and ask nobody.
func endpointVariables(at agent.Endpoint, role, loginID string) [][2]string {
	return [][2]string{
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI", at.URL}, {"AWS_CONTAINER_AUTHORIZATION_TOKEN", string(at.Token.Reveal())},
		{"SEGA_ROLE", role}, {"SEGA_SESSION", loginID},
	}
}

// variables are what the child finds in its environment.
func (d delivery) variables() [][2]string {
	if d.endpoint != nil {
		return endpointVariables(*d.endpoint, d.Role, d.LoginID)
	}
	return variables(d.granted)
}

// childEnv is our environment without stale credentials, with the new ones.
func childEnv(env []string, vars [][2]string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(stale, name) || strings.HasPrefix(name, stalePrefix) || name == "SEGA_ROLE" || name == "SEGA_SESSION" {
			continue
		}
		out = append(out, kv)
	}
	for _, v := range vars {
		out = append(out, v[0]+"="+v[1])
	}
	return out
}
