package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/cmd/sega/agent"
)

// readyWord is what a started agent says to its starter, on file descriptor 3, when it answers.
const readyWord = "ready"

const (
	readyFD    = 3
	maxLogFile = 1 << 20 // bytes, after which the agent's log begins anew at a start
)

// lockHelp says what the lock of an agent reaches: what asks another way reads the stored session.
const lockHelp = "Drop everything and answer nothing until it is unlocked. exec, env, serve, credential-process, stock ssh and the endpoints of running children get nothing\n" +
	"meanwhile. What does not ask the agent (sega ssh, console, roles, hosts, sessions, and all with --no-agent) reads the stored session as before:\n" +
	"only the lock of the system's keyring keeps that. sega logout forgets it."

func newAgent(a *app) *cobra.Command {
	var detach, run, foreground bool
	var idle time.Duration
	c := &cobra.Command{Use: "agent", Short: "Hold session and credentials in memory, for fast answers and renewal", GroupID: groupAccess, Args: atMost(0),
		Long: "The agent is started on demand by whatever needs it, outlives the shell, and stops when nobody has asked for long.\n" +
			"It holds session, credentials and SSH key in memory alone, renews them, and drops them within a second of a revocation.\n" +
			"Without a subcommand it says how it is. --no-agent, or SEGA_NO_AGENT=1, makes a command work without it.",
		Example: "  sega agent status\n  sega agent lock\n  sega agent --foreground",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if detach {
				return withKind(kindAgent, a.detachAgent())
			}
			if run || foreground {
				return withKind(kindAgent, a.runAgent(cmd.Context(), run, idle))
			}
			return a.agentStatus(cmd.Context(), a.json)
		}}
	c.Flags().BoolVar(&detach, "detach", false, "start the agent, and end")
	c.Flags().BoolVar(&run, "run", false, "be the agent, behind whoever has started it")
	c.Flags().BoolVar(&foreground, "foreground", false, "be the agent, in this terminal")
	c.Flags().DurationVar(&idle, "idle", agent.DefaultIdle, "with --foreground: stop after so long without a question")
	if err := errors.Join(c.Flags().MarkHidden("detach"), c.Flags().MarkHidden("run")); err != nil {
		panic(err) // the flags are four lines above
	}
	for _, sub := range []struct{ use, op, short, long, said string }{
		{"lock", agent.OpLock, "Drop everything and answer nothing until it is unlocked", lockHelp, "the agent is locked"},
		{"unlock", agent.OpUnlock, "Let a locked agent answer again", "", "the agent is unlocked"},
		{"stop", agent.OpStop, "Drop everything and end the agent", "", "the agent has stopped"},
	} {
		c.AddCommand(&cobra.Command{Use: sub.use, Short: sub.short, Long: sub.long, Args: atMost(0), Example: "  sega agent " + sub.use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := a.orderAgent(cmd.Context(), sub.op); err != nil {
					return err
				}
				fmt.Fprintln(a.err, sub.said)
				return nil
			}})
	}
	c.AddCommand(&cobra.Command{Use: "status", Short: "Say whether an agent runs, and what it holds", Args: atMost(0), Example: "  sega agent status",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.agentStatus(cmd.Context(), a.json) }})
	return c
}

var errNoneRuns = kinded{withHint(errors.New("no agent is running"), "it is started by whatever needs it, like: sega exec ROLE"), kindAgent}

// orderAgent tells a running agent what to do. Unlocking asks a person here where that is needed.
func (a *app) orderAgent(ctx context.Context, op string) error {
	socket, err := a.socket()
	if err != nil {
		return err
	}
	reply, err := agent.Call(ctx, socket, agent.Request{Op: op})
	switch {
	case errors.Is(err, agent.ErrNotRunning) && op == agent.OpStop:
		return nil
	case errors.Is(err, agent.ErrNotRunning):
		return errNoneRuns
	case err != nil:
		return err
	case reply.Problem != nil && reply.Problem.Kind == agent.KindNeedsKey:
		return a.lendKey(ctx, socket)
	case reply.Problem != nil:
		return reply.Problem
	}
	return nil
}

// agentStatus prints what the agent says of itself.
func (a *app) agentStatus(ctx context.Context, asJSON bool) error {
	socket, err := a.socket()
	if err != nil {
		return err
	}
	reply, err := agent.Call(ctx, socket, agent.Request{Op: agent.OpStatus})
	if errors.Is(err, agent.ErrNotRunning) {
		return errNoneRuns
	}
	if err != nil {
		return err
	}
	if reply.Problem != nil {
		return reply.Problem
	}
	s := *reply.Status
	if asJSON {
		return writeJSON(a.out, s)
	}
	rows := [][]string{{"process", fmt.Sprint(s.PID)}, {"sega", s.Version}, {"since", clock(s.Started)}, {"state", s.State}}
	if s.Why != "" {
		rows = append(rows, []string{"why", s.Why})
	}
	if s.Session != nil {
		feed := "live: warm answers need no network"
		if !s.FeedAlive {
			feed = "lost: the broker is asked each time, at the latest when its lease has ended"
		}
		rows = append(rows, []string{"broker", s.Origin}, []string{"person", personName(s.Session.Person)}, []string{"login ends", clock(s.Session.NotAfter)}, []string{"feed", feed})
	}
	for _, h := range s.Roles {
		rows = append(rows, []string{"holds", heldInWords(h)})
	}
	if !s.SSHUntil.IsZero() {
		rows = append(rows, []string{"holds", "SSH key, certified until " + clock(s.SSHUntil)})
	}
	return table(a.out, []string{"socket", socket}, rows)
}

// heldInWords tells credentials of one role apart by what was asked for.
func heldInWords(h agent.Held) string {
	out := h.Role
	if len(h.Through) > 0 {
		out += " through " + strings.Join(h.Through, ", ")
	}
	if h.ReadOnly {
		out += ", read-only"
	}
	if h.Narrowed {
		out += ", narrowed"
	}
	out += " until " + clock(h.Expires)
	if h.Seconds > 0 {
		out += fmt.Sprintf(" (asked for %s)", span(h.Seconds))
	}
	return out
}

// runAgent is the agent. Behind whoever started it, it says on a pipe when it is ready.
func (a *app) runAgent(ctx context.Context, behind bool, idle time.Duration) error {
	socket, err := a.socket()
	if err != nil {
		return err
	}
	var starter io.WriteCloser
	log := a.err
	if behind {
		letGo()
		starter = os.NewFile(readyFD, "starter")
		f, err := a.agentLog()
		if err != nil {
			fmt.Fprintln(starter, err)
			return err
		}
		defer func() { _ = f.Close() }()
		log = f
	}
	a.mute = true
	store, err := a.secrets() // once, before many ask
	if err != nil {
		return err
	}
	err = agent.Run(ctx, agent.Config{Socket: socket, Version: version, Network: a.network(), Idle: idle, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Open: a.openForAgent, Unlock: a.unlockAgent, Lock: store.Drop, Problem: problemOf,
	}, func() {
		if behind {
			fmt.Fprint(starter, readyWord)
			_ = starter.Close()
		}
	})
	if err != nil && behind {
		fmt.Fprintln(starter, err)
	}
	return err
}

// agentLog is where an agent that nobody looks at writes what befell it. No secret goes there.
func (a *app) agentLog() (*os.File, error) {
	path, err := a.path("agent", "log")
	if err != nil {
		return nil, err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogFile {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}
