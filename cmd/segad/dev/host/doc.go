// Package host is a stand-in for OpenSSH's sshd: `segad dev up` uses it as the host behind the
// bastion where no sshd is installed. It owns what a bastion can see of such a host: hop certificates
// checked as design R5 wants it, a host certificate shown, and sessions with environment, terminal,
// shell, command, sftp, signals and exit codes.
//
// It does not own the format of certificates (sshca), nor anything of a server for many people: it
// runs everything as the account that runs itself, listens on loopback only, and forwards nothing.
// Nothing but the development command imports it.
//
// Two things differ from stock sshd on purpose. It refuses certificates that the hop profile does not
// allow, so that a mistake of the broker shows on a developer's machine. And it leaves no process
// behind: what is left of a program's process group, and of the group in front of its terminal, is
// killed when its channel closes. Background jobs with groups of their own are their shell's to end,
// as under sshd.
//
// It serves the development double of the flow "ssh" of docs/architecture.md.
package host
