// Package policy owns the decision whether somebody may do something: who asks, the action, the
// resource and the circumstances go in; yes or no, the policies that determined it, a reason for
// the person and the obligations of the grant come out. Policies are Cedar text in a folder.
//
// It owns the schema (schema.cedarschema), the annotations that policies may carry, and the rules
// that no policy can switch off by omission: an error in evaluation denies (R8), people need MFA
// (rule 3), a login by device grant does not revoke, unblock, replay or register a key (R1), a
// registered key opens what a permit names it for (docs/decisions/registered-keys.md). It owns no identity,
// no session and no clock: the caller vouches for every value of a Request. It does not enforce
// Obligations: whoever acts on a Decision checks them (Obligations.Unmet).
//
// Beyond Cedar, a policy set keeps these rules, each checked at load:
//
//   - Every policy has a unique @id. The set is never empty, and lies in one folder.
//   - Every policy passes the schema strictly, so that what it reads is there when it is evaluated.
//   - Only known annotations are allowed, for a misspelt one would silently not bind.
//   - A resource has no parents, so "resource in …" is refused instead of being always false.
//
// Annotations: @id and @reason (text for people) on every policy, @description for its readers; on
// a permit @max_duration("1h"), @max_idle("15m"), @max_auth_age("4h"), @require_reason("yes"),
// @require_ticket("yes"), @require_hardware_key("yes"), @require_user_verification("yes"),
// @device_grant("allowed"), @no_mfa("allowed"), @registered_key("allowed").
//
// Where several permits match, the person holds several grants, and a Decision rests on one of
// them, never on a mix: four hours with a ticket and one hour without do not make four hours
// without. It is the grant of which the request leaves least undone; among equals the longest.
//
// It serves every flow of docs/architecture.md at its step "policy".
package policy
