package audit

import (
	"slices"
	"strings"
)

// Kinds of events. docs/audit-format.md says what each carries.
const (
	KindUserLogin       = "user.login"
	KindUserLogout      = "user.logout"
	KindSessionRenew    = "session.renew"
	KindAWSAssume       = "aws.assume"
	KindAWSReuse        = "aws.reuse"
	KindAWSConsole      = "aws.console"
	KindSSHCert         = "ssh.cert"
	KindSSHHop          = "ssh.hop"
	KindSSHFront        = "ssh.front"
	KindSSHRefuse       = "ssh.refuse"
	KindSessionStart    = "session.start"
	KindSessionCommand  = "session.command"
	KindSessionPause    = "session.pause"
	KindSessionResume   = "session.resume"
	KindSessionEnd      = "session.end"
	KindSessionLost     = "session.lost"
	KindRecordingHeads  = "recording.heads"
	KindSpoolLow        = "spool.low"
	KindSpoolFree       = "spool.free"
	KindBastionDrain    = "bastion.drain"
	KindSFTPRead        = "sftp.read"
	KindSFTPWrite       = "sftp.write"
	KindSFTPList        = "sftp.list"
	KindSFTPRemove      = "sftp.remove"
	KindSFTPRename      = "sftp.rename"
	KindSFTPMkdir       = "sftp.mkdir"
	KindSFTPRmdir       = "sftp.rmdir"
	KindSFTPSetstat     = "sftp.setstat"
	KindSFTPSymlink     = "sftp.symlink"
	KindSFTPLink        = "sftp.link"
	KindSFTPCopy        = "sftp.copy"
	KindSFTPStat        = "sftp.stat"
	KindSFTPRefuse      = "sftp.refuse"
	KindForwardOpen     = "forward.open"
	KindForwardClose    = "forward.close"
	KindKeyAdd          = "key.add"
	KindKeyRemove       = "key.remove"
	KindUserRevoke      = "user.revoke"
	KindUserUnblock     = "user.unblock"
	KindSessionRevoke   = "session.revoke"
	KindCertRevoke      = "cert.revoke"
	KindHostRevoke      = "host.revoke"
	KindHostUnblock     = "host.unblock"
	KindAuditRead       = "audit.read"
	KindRecordingRead   = "recording.read"
	KindNodeEnroll      = "node.enroll"
	KindNodeSession     = "node.session"
	KindPolicyReload    = "policy.reload"
	KindCAConfigure     = "ca.configure"
	KindCAPublish       = "ca.publish"
	KindCAWithdraw      = "ca.withdraw"
	KindCASwitch        = "ca.switch"
	KindCARetire        = "ca.retire"
	KindCAAdopt         = "ca.adopt"
	KindLogRecovery     = "log.recovery"
	KindRequestRefuse   = "request.refuse"
	KindRetentionDelete = "retention.delete"
	KindHostToken       = "host.token"
	KindHostEnroll      = "host.enroll"
	KindHostCert        = "host.cert"
	KindHostBypass      = "host.bypass"
	KindAccountRelease  = "account.release"
)

// Kinds returns the closed list of kinds that may be written, sorted.
func Kinds() []string {
	kinds := []string{
		KindUserLogin, KindUserLogout, KindSessionRenew, KindAWSAssume, KindAWSReuse, KindAWSConsole,
		KindSSHCert, KindSSHHop, KindSSHFront, KindSSHRefuse,
		KindSessionStart, KindSessionCommand, KindSessionPause, KindSessionResume, KindSessionEnd, KindSessionLost, KindRecordingHeads, KindSpoolLow, KindSpoolFree, KindBastionDrain,
		KindSFTPRead, KindSFTPWrite, KindSFTPList, KindSFTPRemove, KindSFTPRename, KindSFTPMkdir, KindSFTPRmdir,
		KindSFTPSetstat, KindSFTPSymlink, KindSFTPLink, KindSFTPCopy, KindSFTPStat, KindSFTPRefuse,
		KindForwardOpen, KindForwardClose, KindKeyAdd, KindKeyRemove,
		KindUserRevoke, KindUserUnblock, KindSessionRevoke, KindCertRevoke, KindHostRevoke, KindHostUnblock, KindAuditRead, KindRecordingRead,
		KindNodeEnroll, KindNodeSession, KindPolicyReload,
		KindCAConfigure, KindCAPublish, KindCAWithdraw, KindCASwitch, KindCARetire, KindCAAdopt, KindLogRecovery, KindRequestRefuse, KindRetentionDelete,
		KindHostToken, KindHostEnroll, KindHostCert, KindHostBypass, KindAccountRelease,
	}
	slices.Sort(kinds)
	return kinds
}

// KnownKind reports whether kind is in Kinds.
func KnownKind(kind string) bool {
	switch kind {
	case KindUserLogin, KindUserLogout, KindSessionRenew, KindAWSAssume, KindAWSReuse, KindAWSConsole,
		KindSSHCert, KindSSHHop, KindSSHFront, KindSSHRefuse,
		KindSessionStart, KindSessionCommand, KindSessionPause, KindSessionResume, KindSessionEnd, KindSessionLost, KindRecordingHeads, KindSpoolLow, KindSpoolFree, KindBastionDrain,
		KindSFTPRead, KindSFTPWrite, KindSFTPList, KindSFTPRemove, KindSFTPRename, KindSFTPMkdir, KindSFTPRmdir,
		KindSFTPSetstat, KindSFTPSymlink, KindSFTPLink, KindSFTPCopy, KindSFTPStat, KindSFTPRefuse,
		KindForwardOpen, KindForwardClose, KindKeyAdd, KindKeyRemove,
		KindUserRevoke, KindUserUnblock, KindSessionRevoke, KindCertRevoke, KindHostRevoke, KindHostUnblock, KindAuditRead, KindRecordingRead,
		KindNodeEnroll, KindNodeSession, KindPolicyReload,
		KindCAConfigure, KindCAPublish, KindCAWithdraw, KindCASwitch, KindCARetire, KindCAAdopt, KindLogRecovery, KindRequestRefuse, KindRetentionDelete,
		KindHostToken, KindHostEnroll, KindHostCert, KindHostBypass, KindAccountRelease:
		return true
	}
	return false
}

// kindShaped reports whether kind is two words of lower-case letters joined by a dot. Readers ask
// no more than this, so that an older binary can verify a log with newer kinds.
func kindShaped(kind string) bool {
	noun, verb, found := strings.Cut(kind, ".")
	return found && word(noun) && word(verb)
}

func word(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

func knownOutcome(o Outcome) bool {
	switch o {
	case Intent, Success, Failure, Denied, Revoked, Unknown:
		return true
	}
	return false
}

func knownActorKind(kind string) bool {
	switch kind {
	case ActorUser, ActorMachine, ActorSystem, ActorAnonymous:
		return true
	}
	return false
}

// Kinds of actors.
const (
	ActorUser      = "user"
	ActorMachine   = "machine"
	ActorSystem    = "system"
	ActorAnonymous = "anonymous"
)
