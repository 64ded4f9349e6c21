//go:build linux

// Command bench measures what design.md §7 budgets, beside the peers that this machine has: a bare
// Go process, the AWS CLI, OpenSSH through a jump host, a bare x/crypto/ssh proxy, step-ca. Every figure
// is measured in the run that prints it; what was not measured is null. step-ca is built for the run
// from the module proxy (stepca.go).
//
//	go run ./cmd/segad/dev/bench -only bastion
//
// It prints a table and writes bench.json into the current folder: a list of {name, value, unit,
// budget, peer, peer_value, ratio, ok}. budget is in the unit of value; ok is null where there is
// none, or where what was measured is smaller than what is budgeted.
//
// It owns the loads and the measuring. Servers and people come from `segad dev up` (package dev).
// It serves no flow; it holds them to their budgets.
package main
