package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"sega/broker/api"
	"sega/broker/client"
	"sega/idp"
)

// remedies are what to do next where an error does not say so itself.
var remedies = map[api.Kind]string{
	kindLogin:          "run: sega login",
	kindLocked:         "unlock it, or run sega where somebody can be asked; see: sega doctor",
	kindBusy:           "end the other sega, which may be waiting for an answer, and try again",
	kindAgent:          "see: sega doctor",
	kindForeign:        "check the broker's address (SEGA_BROKER) and any proxy in between",
	kindIDPDenied:      "log in again, or ask whoever runs the identity provider",
	kindIDPUnreachable: "check the network, HTTPS_PROXY and NO_PROXY, and try again; see: sega doctor",
	kindIDPInvalid:     "ask whoever runs the identity provider and the broker to compare their configurations; see: sega doctor",
	kindBrowser:        "run: sega login --paste",
	kindConfig:         "see: sega doctor",
	kindClock:          "set this machine's clock",
	kindUntrusted:      "have the CA that has issued it in this system's trust (SSL_CERT_FILE names another file on Linux); SEGA_CA_FILE is for the broker alone",
	kindUnverified:     "tell the security staff",
}

// remedy says what to do about an error.
func remedy(err error, kind api.Kind) string {
	switch kind {
	case kindDisk:
		return diskRemedy(err)
	case kindFile:
		return fileRemedy(err)
	}
	return remedies[kind]
}

func diskRemedy(err error) string {
	where := "this machine's disk"
	if path := pathOf(err); path != "" {
		where = "the disk of " + path
	}
	if errors.Is(err, syscall.EROFS) {
		return "make " + where + " writable, or set SEGA_HOME to a folder that is"
	}
	return "free " + where + " and try again; what was there before is as it was"
}

func fileRemedy(err error) string {
	path := pathOf(err)
	switch {
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL):
		return "set TMPDIR and SEGA_HOME to folders with shorter names"
	case path == "" || errors.Is(err, fs.ErrExist):
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return "check the name: " + path
	case errors.Is(err, fs.ErrPermission):
		return "look at owner and mode: ls -ld " + filepath.Dir(path) + " " + path
	}
	return ""
}

// pathOf is the path of which an error of the file system tells, "" for none.
func pathOf(err error) string {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Path
	case errors.As(err, &link):
		return link.New
	}
	return ""
}

// kindOfSystem tells errors of the system apart, as far as they have types.
func kindOfSystem(err error) api.Kind {
	var (
		program *exec.Error
		path    *fs.PathError
		link    *os.LinkError
		call    *os.SyscallError
		network *net.OpError
		dns     *net.DNSError
		address *url.Error
	)
	switch {
	case errors.As(err, &program):
		return kindProgram
	case errors.As(err, &network) && !strings.HasPrefix(network.Net, "unix"), errors.As(err, &dns), errors.As(err, &address):
		return api.KindUnreachable
	case errors.As(err, &path), errors.As(err, &link), errors.As(err, &call), network != nil:
		return kindFile
	}
	return api.KindInternal
}

// detailOf is an error's own text. Those of net/http quote an address with its query and the names of
// calls; of them only whose the answer was to be, and why there is none, is told.
func detailOf(err error, kind api.Kind) string {
	var problem *api.Problem
	var exchange *url.Error
	if errors.As(err, &problem) || !errors.As(err, &exchange) {
		return err.Error()
	}
	if kind == kindCancelled {
		return errCancelled.Error()
	}
	who := "the other side"
	if errors.Is(err, idp.ErrUnreachable) {
		who = "the identity provider"
	}
	if u, parseErr := url.Parse(exchange.URL); parseErr == nil && u.Host != "" {
		who += " at " + u.Host
	}
	if d, ok := client.Distrusted(err); ok {
		return fmt.Sprintf("the certificate of %s is not trusted: %s", who, d.Why)
	}
	return fmt.Sprintf("%s cannot be reached: %s", who, client.Reason(err))
}
