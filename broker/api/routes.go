package api

// Routes. All but Configuration, Discovery, KeySet, KRL and KRLSig, Checkpoint, Consistency, hash tiles (made to be witnessed by anybody), Health,
// Ready and Metrics need a DPoP proof; all but those, Login,
// the device login and the machine routes need a session token as well ("Authorization: DPoP …").
//
// SessionFeed begins with FeedTrust (front CAs alone). A heartbeat says that at its time the session stood. What revokes the
// session, or the person, comes as FeedRevoke; so does the end of an SSH session of this login. The last
// item is FeedEnd with the problem that a new request would get: KindRevoked, KindUnauthenticated where the session has
// expired or was logged out, KindConflict where a newer feed of the same login has taken its place, KindUnavailable where the
// broker stops or cannot read its database. A feed that ends without it was lost. It has no index to go on from: whoever
// connects anew is judged by his session.
//
// SessionAck is taken for a minute from a session that has ended, and counts once that was by a revocation.
const (
	RouteConfiguration = "/.well-known/sega-configuration"   // GET → Configuration
	RouteDiscovery     = "/.well-known/openid-configuration" // GET → of the broker as an OIDC issuer, for AWS
	RouteKeySet        = "/.well-known/jwks.json"            // GET → its public keys (RFC 7517)
	RouteHealth        = "/healthz"
	RouteReady         = "/readyz"
	RouteMetrics       = "/metrics"

	RouteLogin       = "/v1/login"             // POST LoginRequest → Session
	RouteDevice      = "/v1/login/device"      // POST {} → DeviceStart
	RouteDevicePoll  = "/v1/login/device/poll" // POST DevicePoll → Session, or Problem KindPending
	RouteRenew       = "/v1/session/renew"     // POST RenewRequest → Session
	RouteSession     = "/v1/session"           // GET → Status
	RouteLogout      = "/v1/logout"            // POST {} → Empty
	RouteRoles       = "/v1/roles"             // GET → Roles
	RouteCredentials = "/v1/aws/credentials"   // POST CredentialsRequest → Credentials
	RouteReuse       = "/v1/aws/reuse"         // POST ReuseRequest → Reuse
	RouteConsole     = "/v1/aws/console"       // POST ConsoleRequest → Console
	RouteSessionFeed = "/v1/session/feed"      // GET → NDJSON of FeedItem that concern the caller's login, unending
	RouteSessionAck  = "/v1/session/ack"       // POST Ack → Empty; of a session that has ended, too
	RouteHosts       = "/v1/hosts"             // GET → Hosts
	RouteCertificate = "/v1/ssh/certificate"   // POST CertificateRequest → Certificate
	RouteKeys        = "/v1/keys"              // GET ?user= → Keys; POST RegisterKeyRequest → Key
	RouteSessions    = "/v1/sessions"          // GET → Sessions
	RouteRevoke      = "/v1/revoke"            // POST RevokeRequest → Receipt
	RouteUnblock     = "/v1/unblock"           // POST UnblockRequest → Empty
	RouteEvents      = "/v1/audit/events"      // GET ?q=… → NDJSON of Event
	RouteCount       = "/v1/audit/count"       // GET ?q=…&by=user,day → NDJSON of query.Group
	RouteLog         = "/v1/audit/log"         // GET ?from=&to= → NDJSON of LogRow
	RouteRollups     = "/v1/audit/rollups"     // GET → NDJSON of audit.Rollup
	RouteProof       = "/v1/audit/proof/{id}"  // GET → Proof
	RouteConsistency = "/v1/audit/consistency" // GET ?from=&to= → Consistency
	RouteCheckpoint  = "/tlog/checkpoint"      // GET → signed note (C2SP tlog-checkpoint)
	RouteTile        = "/tlog/tile/{path...}"  // GET → hash tiles (C2SP tlog-tiles); entries need a session
	RouteRecording   = "/v1/recordings/{id}"   // GET ?purpose=&reason=&from= → bytes of the recording
	RouteEnroll      = "/v1/machines/enroll"   // POST EnrollRequest → Machine
	RouteMachine     = "/v1/machines/session"  // POST {} → MachineSession
	RouteFeed        = "/v1/bastion/feed"      // GET ?after=INDEX → NDJSON of FeedItem, unending
	RouteAck         = "/v1/bastion/ack"       // POST Ack → Empty
	RouteHop         = "/v1/bastion/hop"       // POST HopRequest → Hop
	RouteFront       = "/v1/bastion/front"     // POST FrontRequest → Certificate
	RouteReport      = "/v1/bastion/events"    // POST []Report → Empty
	RouteChannel     = "/v1/bastion/channel"   // POST ChannelRequest → ChannelGrant
	RouteKRL         = "/v1/ssh/krl"           // GET → OpenSSH's key revocation list, with ETag and HeaderKRLVersion
	RouteKRLSig      = "/v1/ssh/krl.sig"       // GET → its detached signature (SSHSIG) by the hop CA, with the same ETag and HeaderKRLVersion

	RouteHostToken       = "/v1/hosts/token"       // POST HostTokenRequest → HostToken
	RouteHostEnroll      = "/v1/host/enroll"       // POST HostEnrollRequest → HostEnrolled
	RouteHostBundle      = "/v1/host/bundle"       // GET ?version=&trust=&krl= → HostBundle; as long as it is of that version, after a while
	RouteHostCertificate = "/v1/host/certificate"  // POST HostCertificateRequest → Certificate
	RouteHostKeys        = "/v1/host/keys/{login}" // GET → HostKeys
	RouteHostAudit       = "/v1/host/audit"        // POST HostLogins → HostVerdicts

	RouteIndexSessions  = "/v1/indexer/sessions"        // GET ?after=INDEX → NDJSON of IndexSession, those that have ended
	RouteIndexRecording = "/v1/indexer/recordings/{id}" // GET → bytes of the recording
	RouteIndexSearches  = "/v1/indexer/searches"        // GET → NDJSON of IndexSearch, unending
	RouteIndexHits      = "/v1/indexer/hits"            // POST IndexHits → Empty
)

// Headers of ours.
const (
	HeaderCheckpoint = "Sega-Checkpoint" // base64 (std) of the latest signed checkpoint, on every answer but hash tiles, which caches keep
	HeaderRequestID  = "Sega-Request-Id"
	HeaderNotice     = "Sega-Notice"      // a sentence in ASCII for whoever reads the answer: what it may lack
	HeaderKRLVersion = "Sega-KRL-Version" // decimal; a list and a signature of one version belong together
	HeaderNonce      = "DPoP-Nonce"
	HeaderProof      = "DPoP"
)

// Prefixes of wire tokens, so that scanners find them.
const (
	PrefixSession = "sega_ses_"
	PrefixMachine = "sega_mch_"
	PrefixJoin    = "sega_join_"
)

// Empty is the body of an answer that says nothing but "done".
type Empty struct{}
