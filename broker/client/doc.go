// Package client owns the way to the broker: a typed method for each route of broker/api, the
// DPoP proof and nonce of every request, the one mapping of answers and network failures to
// api.Problem, and the hand-over of the checkpoint that every answer carries. The CLI, the agent and
// the bastion use it; it keeps no state but the last nonce and links nothing of the server.
//
// It serves every flow of docs/architecture.md between a laptop or a bastion and the broker.
package client
