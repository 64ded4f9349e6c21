package policy

import "testing"

// TestIndex: what is searched reaches people through replay alone, so a person is never let to
// index, whatever a policy says, and a machine that may index replays nothing.
func TestIndex(t *testing.T) {
	all := load(t, everything)
	only := load(t, `@id("indexers") permit (principal is Machine, action == Action::"index", resource is Recording)
		unless { resource.hasTag("env") && resource.getTag("env") == "vault" };`)
	machine := Principal{Kind: KindMachine, Subject: "mch_1"}
	at := ask().Context
	recording := Resource{Type: TypeRecording, ID: "ssh_1", Owner: "00u1", OwnerIssuer: issuer}
	vault := recording
	vault.Labels = map[string]string{"env": "vault"}

	decided(t, only, Request{Principal: machine, Action: ActionIndex, Resource: recording, Context: at}, allowed("indexers"))
	decided(t, only, Request{Principal: machine, Action: ActionIndex, Resource: vault, Context: at}, Decision{Cause: CauseNoPermit})
	decided(t, only, Request{Principal: machine, Action: ActionReplay, Resource: recording, Context: at}, Decision{Cause: CauseInvalid})
	decided(t, all, Request{Principal: machine, Action: ActionReplay, Resource: recording, Context: at}, Decision{Cause: CauseInvalid})
	decided(t, all, Request{Principal: ask().Principal, Action: ActionIndex, Resource: recording, Context: at}, Decision{Cause: CauseInvalid})
}
