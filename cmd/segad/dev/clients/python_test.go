//go:build linux

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func pythonRows() []row {
	return []row{
		{client: "paramiko", use: "exec, SFTP", needs: []string{"/usr/bin/python3"}, run: python("paramiko", paramikoScript, paramikoArgs), moved: true, files: true,
			commands: []string{"exec " + apart, "subsystem sftp"}},
		{client: "asyncssh", use: "exec, SFTP", needs: []string{"/usr/bin/python3"}, run: python("asyncssh", asyncsshScript, asyncsshArgs), moved: true, files: true,
			commands: []string{"exec " + apart, "subsystem sftp"}},
	}
}

// paramikoScript goes through OpenSSH's client to the bastion, which checks the bastion by the front CA: paramiko itself
// knows no CAs. What is inside of that connection is the bastion's as well, whatever key it shows.
const paramikoScript = `
import paramiko, sys
config, host, user, key, data, there, back, command = sys.argv[1:]
class Inside(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client, hostname, key):
        pass
private = paramiko.Ed25519Key.from_private_key_file(key)
private.load_certificate(key + "-cert.pub")
client = paramiko.SSHClient()
client.set_missing_host_key_policy(Inside())
client.connect(host, username=user, pkey=private, sock=paramiko.ProxyCommand("ssh -F %s -W %s:22 sega-bastion" % (config, host)),
               allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
sftp.put(data, there)
sftp.get(there, back)
sftp.close()
_, out, err = client.exec_command(command)
sys.stdout.write(out.read().decode())
sys.stderr.write(err.read().decode())
status = out.channel.recv_exit_status()
client.close()
sys.exit(status)
`

// asyncsshScript uses the certificate and checks the bastion's by the front CA.
const asyncsshScript = `
import asyncio, asyncssh, sys
host, port, user, key, known, data, there, back, command = sys.argv[1:]
async def main():
    async with asyncssh.connect(host, int(port), username=user, client_keys=[(key, key + "-cert.pub")], known_hosts=known,
                                host_key_alias="dev-bastion", config=None, agent_path=None) as c:
        async with c.start_sftp_client() as sftp:
            await sftp.put(data, there)
            await sftp.get(there, back)
        r = await c.run(command)
        sys.stdout.write(r.stdout)
        sys.stderr.write(r.stderr)
        sys.exit(r.exit_status)
asyncio.run(main())
`

func paramikoArgs(w *world) []string { return []string{w.files, w.Host.Name, w.Host.Login, w.key} }

func asyncsshArgs(w *world) []string {
	return []string{w.addr, w.port, w.Host.Login + "%" + w.Host.Name, w.key, filepath.Join(w.Home, "ssh", "known_hosts")}
}

// python runs a script that moves the data by SFTP both ways, then runs a program and ends as that does.
func python(module, script string, args func(*world) []string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		if exec.Command("/usr/bin/python3", "-W", "ignore", "-c", "import "+module).Run() != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("python3-%s is missing: run scripts/deps", module)
			}
			t.Skipf("python3-%s is missing: run scripts/deps", module)
		}
		there, back := w.fresh(t, "there"), w.fresh(t, "back")
		argv := append([]string{"-W", "ignore", "-c", script}, args(w)...)
		tellApart(t, w.Run("/usr/bin/python3", append(argv, w.data, there, back, apart)...))
		w.same(t, there, back)
	}
}
