//go:build !linux

package main

func noCore() error { return nil }
