package awsconfig

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Program is the sega that profiles run.
type Program struct {
	Path    string   // absolute
	Env     []string // NAME=VALUE, which it needs beside what any shell has; not on Windows
	Windows bool     // whose shell has quotes of its own
}

// Characters, beside letters and digits, of words that nobody takes for more than a word.
const (
	roleChars = "_+=,.@/:-"
	bareChars = roleChars + "%"
	dosChars  = roleChars + `\`
)

// only reports whether a text is made of ASCII letters, digits and the characters of more, and not empty.
func only(s, more string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	})
}

// lifetime reports whether a text is a duration like "4h" or "3600", as far as a shell is concerned.
func lifetime(s string) bool {
	return strings.Trim(s, "0123456789hms") == "" && s != "" && s[0] <= '9'
}

// Command is the value of credential_process for a role. botocore splits it as a shell would, without
// one (shlex); the SDKs for Go, JavaScript, Java and .NET give it to sh or cmd.exe. The SDK for Go takes
// quotes off that stand at both ends: the last word never has any. duration is like "4h" or "3600", or empty.
func (p Program) Command(role, duration string) (string, error) {
	if !only(role, roleChars) || role[0] == '-' {
		return "", fmt.Errorf("no command can name the role %q: only letters, digits and +=,.@_/:- pass unquoted", role)
	}
	if duration != "" && !lifetime(duration) {
		return "", fmt.Errorf("%q is not a duration like 4h or 3600", duration)
	}
	words := []string{p.Path}
	if len(p.Env) > 0 {
		if p.Windows {
			return "", errors.New("a command on Windows cannot set variables")
		}
		words = slices.Concat([]string{"/usr/bin/env"}, p.Env, words)
	}
	for i, w := range words {
		quoted, err := p.quote(w)
		if err != nil {
			return "", err
		}
		words[i] = quoted
	}
	words = append(words, "credential-process", role)
	if duration != "" {
		words = append(words, "--duration", duration)
	}
	command := strings.Join(words, " ")
	if uncomment(command) != command {
		return "", fmt.Errorf("an SDK would take a part of %q for a comment: rename the folder", p.Path)
	}
	return command, nil
}

func (p Program) quote(word string) (string, error) {
	unwritable := fmt.Errorf("credential_process cannot name %q", word)
	switch {
	case strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", unwritable
	case p.Windows && only(word, dosChars), !p.Windows && only(word, bareChars):
		return word, nil
	case !p.Windows:
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'", nil
	case only(word, dosChars+" "):
		return `"` + word + `"`, nil
	}
	return "", unwritable
}

// calls reports whether a command is a credential-process of sega for a role, by whomever it was written.
func calls(command, role string) bool {
	words, _ := shellWords(command)
	for i, w := range words {
		if i > 0 && (w == "credential-process" || w == "cred-process") && i+1 < len(words) {
			name := strings.TrimSuffix(filepath.Base(words[i-1]), ".exe")
			return name == "sega" && words[i+1] == role
		}
	}
	return false
}
