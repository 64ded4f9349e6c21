package idp

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// startGrace is how long a browser command may take to fail and still be noticed.
const startGrace = time.Second

// OpenBrowser opens address (http or https) in the person's browser: the commands of $BROWSER in
// turn, a list separated like $PATH, each split into words without a shell, with %s standing for
// the address (appended where there is none); without $BROWSER the system's opener. The browser
// gets neither our stdin nor our stdout, and is not waited for. ErrNoBrowser where no command
// could be started, or each failed at once.
func OpenBrowser(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%w: not a web address", ErrNoBrowser)
	}
	commands, err := browsers(os.Getenv("BROWSER"), runtime.GOOS, u.String())
	if err != nil {
		return err
	}
	return StartBrowser(commands)
}

// StartBrowser starts the first of several commands that can be started and does not fail at once, as
// OpenBrowser does. ErrNoBrowser where there is none.
func StartBrowser(commands [][]string) error {
	var failures []error
	for _, argv := range commands {
		err := start(argv)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return fmt.Errorf("%w: %w\n  set BROWSER to one that is there", ErrNoBrowser, errors.Join(failures...))
}

// browsers returns the commands to try for an address.
func browsers(env, goos, address string) ([][]string, error) {
	sep, escapes := byte(':'), true
	if goos == "windows" {
		sep, escapes = ';', false // both stand in paths there
	}
	commands, err := splitCommands(env, sep, escapes)
	if err != nil {
		return nil, fmt.Errorf("%w: BROWSER: %w", ErrNoBrowser, err)
	}
	if len(commands) == 0 {
		commands = [][]string{system(goos)}
	}
	for i, c := range commands {
		commands[i] = expand(c, address)
	}
	return commands, nil
}

func system(goos string) []string {
	switch goos {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	return []string{"xdg-open"}
}

// expand replaces %s by the address and %% by a percent sign; without a %s the address comes last.
func expand(command []string, address string) []string {
	var argv []string
	named := false
	for _, word := range command {
		var b strings.Builder
		for i := 0; i < len(word); i++ {
			switch {
			case strings.HasPrefix(word[i:], "%s"):
				b.WriteString(address)
				named = true
				i++
			case strings.HasPrefix(word[i:], "%%"):
				b.WriteByte('%')
				i++
			default:
				b.WriteByte(word[i])
			}
		}
		argv = append(argv, b.String())
	}
	if !named {
		argv = append(argv, address)
	}
	return argv
}

// start runs a browser command and returns once it has ended well, or lives after startGrace.
func start(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...) // no stdin, stdout, stderr: the null device
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	ended := make(chan error, 1)
	// Nobody waits for this goroutine on purpose: it is the browser's, which outlives the login;
	// it holds the process handle alone and reaps the child so that no zombie stays.
	go func() { ended <- cmd.Wait() }()
	grace := time.NewTimer(startGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%s: %w", argv[0], err)
		}
		return nil
	case <-grace.C:
		return nil
	}
}
