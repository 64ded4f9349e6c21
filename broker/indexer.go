package broker

import (
	"context"

	"sega/audit/query"
	"sega/broker/api"
)

// resolveScreens replaces what screens showed by the sessions that showed it, which only an indexer
// can tell. This broker knows none.
func (s *Server) resolveScreens(context.Context, *call, query.Expr) (query.Expr, error) {
	return nil, api.Errorf(api.KindNotFound, "no indexer is connected, so what screens showed cannot be searched").WithHint("leave screen: out of the query")
}
