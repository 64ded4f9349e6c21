package api

// EventLine is a line of RouteEvents: an event, or one of two that hold nothing else.
//
// A heartbeat comes once a second in a stream that follows, so that a dead connection shows. A
// problem stands where the last line would: the stream ends here although there is more, because
// the session ended, policy no longer allows it, or the log could not be read. A stream that ends
// with the last line, {"end":true}, is whole; one that follows does so when the broker stops.
type EventLine struct {
	Event
	Heartbeat bool     `json:"heartbeat,omitempty"`
	Problem   *Problem `json:"problem,omitempty"`
}

// Group is a line of RouteCount: how many events share a value in each dimension.
type Group struct {
	Key   []string `json:"key"` // in the order of the dimensions asked for
	Count int64    `json:"count"`
}
