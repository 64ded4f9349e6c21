package bastion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

const (
	kindStart = "session.start"
	kindEnd   = "session.end"
)

type startDetail struct {
	Host         string                  `json:"host"`
	Login        string                  `json:"login"`
	Route        string                  `json:"route"`
	HostID       string                  `json:"host_id"`
	Client       string                  `json:"client"` // SSH version string, as the client chose it
	AccessSerial string                  `json:"access_serial"`
	AccessKey    string                  `json:"access_key"`
	HopSerial    string                  `json:"hop_serial,omitempty"`
	HostSerial   string                  `json:"host_serial,omitempty"` // of the certificate that the host has shown
	Recording    *recording.Announcement `json:"recording,omitempty"`
}

// open returns nil where something new may be opened now.
func (b *Bastion) open() error {
	if err := b.feed.open(); err != nil {
		return err
	}
	if err := b.draining(); err != nil {
		return err
	}
	return b.disk.open()
}

// open asks the broker, starts the recording, connects to the host and reports the start, in this
// order. Only when it returns nil may anything be proxied.
func (s *session) open() error {
	if err := s.b.open(); err != nil {
		return err
	}
	key, err := newHopKey()
	if err != nil {
		return err
	}
	claim := s.b.reg.claim()
	defer s.b.reg.release(claim)
	if err := s.askHop(key); err != nil {
		return err
	}
	detail := s.startDetail()
	if err := s.begin(claim, key, &detail); err != nil {
		s.abandon(detail, err)
		return err
	}
	return nil
}

// askHop requests permission for this one connection.
func (s *session) askHop(key hopKey) error {
	var hop api.Hop
	err := s.b.calls.ask(s.ctx, s.client.holder.login, func() (err error) {
		ctx, cancel := context.WithTimeout(s.ctx, s.b.cfg.CallTimeout)
		defer cancel()
		hop, err = s.b.cfg.Control.Hop(ctx, api.HopRequest{
			AccessSerial: s.client.holder.serial(), AccessKey: s.client.holder.fingerprint(),
			Host: s.route.host, Login: s.route.login, Source: s.client.source.String(), HopKey: key.line(), Route: s.route.kind,
		})
		return err
	})
	if err == nil {
		s.hop = hop
		s.b.reg.identify(s.client.outer, hop.Person)
		s.meta = spoolMeta{SessionID: hop.SessionID, EndID: newEventID(), Source: s.client.source.String(), Started: s.b.cfg.Now().UTC(),
			Person: owner{Issuer: hop.Person.Issuer, Subject: hop.Person.Subject}}
		return nil
	}
	if !decided(err) {
		s.reportUnasked(err)
	}
	return fmt.Errorf("no access to %s as %s: %w", s.route.host, s.route.login, err)
}

// decided reports whether the broker itself has refused, and so has the event itself.
func decided(err error) bool {
	var p *api.Problem
	if !errors.As(err, &p) {
		return false
	}
	switch p.Kind {
	case api.KindDenied, api.KindMFA, api.KindStepUp, api.KindRevoked, api.KindNotFound, api.KindInvalid, api.KindRateLimited:
		return true
	}
	return false
}

// saidNo reports whether the broker has refused what was asked, whoever else asks it for what.
func saidNo(err error) bool { return decided(err) && !api.IsKind(err, api.KindRateLimited) }

// reportUnasked notes a connection about which the broker could not be asked. There is no session
// to name.
func (s *session) reportUnasked(err error) {
	d := refusedKey(s.client.holder.key, s.client.conn)
	d.Host, d.Login, d.Signed = s.route.host, s.route.login, true
	reason := reasonUnasked
	if errors.Is(err, errTooFast) {
		reason = errTooFast.Error()
	}
	s.b.refusals.note(s.client.source, reason, d.because(err))
}

// begin takes the granted connection up to the reported start. The registry comes first: from then
// on a revocation reaches the session wherever it stands.
func (s *session) begin(claim *claim, key hopKey, detail *startDetail) error {
	signer, serial, err := s.hopSigner(key)
	if err != nil {
		return err
	}
	if serial != 0 {
		detail.HopSerial = strconv.FormatUint(serial, 10)
	}
	s.entry = &live{session: true, sever: s.sever, parted: s.parted, hangUp: s.hangUp, head: s.head, failed: s.failed, mended: s.mended, halted: s.halts.list, told: s.notice, subject: subject{
		issuer: s.hop.Person.Issuer, subject: s.hop.Person.Subject, login: s.hop.LoginID, session: s.hop.SessionID,
		host: s.route.host, access: s.client.holder.serial(), hop: serial}}
	if rev := s.b.reg.admit(claim, s.entry); rev != nil {
		return revokedBy(*rev)
	}
	if err := s.b.open(); err != nil {
		return err
	}
	if err := s.b.quotas.room(s.meta.Person); err != nil {
		return err
	}
	if _, err := hopTimes(s.hop, s.b.cfg.Now()); err != nil {
		return err
	}
	if err := s.startRecording(detail); err != nil {
		return err
	}
	t, err := s.b.dialTarget(s.ctx, s.hop, s.route.login, signer, func(serial uint64) bool { return s.b.reg.showed(s.entry, serial) })
	if err != nil {
		return err
	}
	if serial := s.b.reg.hostCert(s.entry); serial != 0 {
		detail.HostSerial = strconv.FormatUint(serial, 10)
	}
	if err := s.setTarget(t); err != nil {
		s.dropTarget(t)
		return err
	}
	if err := s.reportStart(*detail); err != nil {
		s.dropTarget(t)
		return err
	}
	return nil
}

// hopSigner returns what signs at the host, and the serial of its certificate: 0 where the host asks the
// broker for the plain key.
func (s *session) hopSigner(key hopKey) (ssh.Signer, uint64, error) {
	if s.hop.PlainKey {
		return key.signer, 0, nil
	}
	signer, cert, err := key.certified(s.hop.Certificate)
	if err != nil {
		return nil, 0, err
	}
	return signer, cert.Serial, nil
}

// dropTarget closes a host's connection that nothing has been proxied to.
func (s *session) dropTarget(t *target) {
	t.abort()
	discard(t.conn, t.chans, t.reqs)
}

func (s *session) startRecording(detail *startDetail) error {
	file, err := s.b.spool.create(s.meta)
	if err != nil {
		return s.unrecordable(err)
	}
	file = &countedFile{SpoolFile: &patientFile{SpoolFile: file, s: s}, s: s}
	rec, err := recording.New(file, recording.Config{
		SessionID: s.hop.SessionID, Recipients: s.b.cfg.Recipients, RecipientNames: s.b.cfg.RecipientNames,
		InputRecipients: s.b.cfg.InputRecipients, InputRecipientNames: s.b.cfg.InputRecipientNames, Hash: s.b.cfg.Hash,
	})
	if err != nil {
		err = errors.Join(err, file.Close(), s.b.spool.remove(s.meta.SessionID))
		return s.unrecordable(err)
	}
	announcement := rec.Announce()
	detail.Recording = &announcement
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec, s.file = rec, file
	return nil
}

// unrecordable tells the person why without telling how the bastion's disk is laid out.
func (s *session) unrecordable(err error) error {
	s.b.cfg.Log.Error("session cannot be recorded", "session", s.meta.SessionID, "error", err)
	var file *fs.PathError
	if errors.As(err, &file) {
		err = file.Err
	}
	return hint(fmt.Errorf("the session cannot be recorded: %w", err), "tell whoever runs the bastion")
}

func (s *session) startDetail() startDetail {
	return startDetail{
		Host: s.route.host, Login: s.route.login, Route: s.route.kind, HostID: s.hop.HostID,
		Client:       printable(clip(string(s.client.conn.ClientVersion()))),
		AccessSerial: strconv.FormatUint(s.client.holder.serial(), 10), AccessKey: s.client.holder.fingerprint(),
	}
}

// errStartUnreported is followed by a session.end as well: the broker may have taken the start and
// only its answer got lost.
var errStartUnreported = errors.New("the broker did not log the session's start")

func (s *session) reportStart(detail startDetail) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.b.cfg.CallTimeout)
	defer cancel()
	s.announced = true
	if err := s.b.cfg.Control.Report(ctx, []api.Report{s.report(kindStart, audit.Success, "", detail)}); err != nil {
		return fmt.Errorf("%w: %w", errStartUnreported, err)
	}
	return context.Cause(s.ctx) // a revocation may have come meanwhile
}

// report builds an event about this session.
func (s *session) report(kind string, outcome audit.Outcome, reason string, detail any) api.Report {
	return api.Report{ID: newEventID(), Time: s.b.cfg.Now().UTC(), Kind: kind, Outcome: string(outcome),
		SessionID: s.hop.SessionID, Reason: reason, Source: s.meta.Source, Details: details(detail)}
}

// abandon undoes a session that did not start, and queues the reports of that. Once its start may
// be in the log, its recording is kept and its end is reported like any other.
func (s *session) abandon(detail startDetail, why error) {
	s.b.reg.remove(s.entry)
	s.b.cfg.Log.Info("session did not start", "session", s.hop.SessionID, "host", s.route.host, "error", why)
	if s.announced {
		s.cancel(notStarted(why))
		s.finish()
	} else {
		s.dropRecording()
	}
	if s.announced && !errors.Is(why, errStartUnreported) {
		return
	}
	outcome := audit.Failure
	if end := notStarted(why); end.outcome == audit.Revoked {
		outcome = audit.Denied
	}
	s.b.reports.put(s.report(kindStart, outcome, printable(why.Error()), detail))
}

// dropRecording removes the spool of a session of which nothing has been announced.
func (s *session) dropRecording() {
	if s.rec == nil {
		return
	}
	_, err := s.rec.Close("did not start")
	if err := errors.Join(err, s.file.Close(), s.b.spool.remove(s.meta.SessionID)); err != nil {
		s.b.cfg.Log.Error("spool of a session that did not start", "session", s.meta.SessionID, "error", err)
	}
}

// refuse tells the person why there is no session, and what to do.
func (s *session) refuse(err error) {
	s.client.tellAndClose(advise(err))
}

// advise adds what to do next to the failures that a person can do something about.
func advise(err error) error {
	switch {
	case errors.Is(err, errHostKey):
		return hint(err, "do not go on by another way; tell the security team which host it is")
	case errors.Is(err, errHopAuth):
		return hint(err, "the host may not be enrolled for this account: run `sega hosts`, or ask its owner")
	case errors.Is(err, errFeedLost), errors.Is(err, errNoTrust), errors.Is(err, errStartUnreported), errors.Is(err, context.DeadlineExceeded):
		return hint(err, "try again in a minute")
	}
	return err
}
