// Package e2e holds the tests that run the whole of sega with real parts: the binaries, OpenSSH,
// the AWS CLI, tmux. See dev/devtest for how an environment is run.
package e2e
