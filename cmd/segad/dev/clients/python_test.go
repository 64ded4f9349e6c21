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
		{client: "asyncssh", use: "exec, SFTP", needs: []string{"/usr/bin/python3"}, run: python("asyncssh", asyncsshScript), moved: true,
			commands: []string{"exec " + apart, "subsystem sftp"}},
	}
}

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

// python runs a script that moves the data by SFTP both ways, then runs a program and ends as that does.
func python(module, script string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		if exec.Command("/usr/bin/python3", "-W", "ignore", "-c", "import "+module).Run() != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("python3-%s is missing: run scripts/deps", module)
			}
			t.Skipf("python3-%s is missing: run scripts/deps", module)
		}
		there, back := w.fresh(t, "there"), w.fresh(t, "back")
		tellApart(t, w.Run("/usr/bin/python3", "-W", "ignore", "-c", script, w.addr, w.port, w.Host.Login+"%"+w.Host.Name, w.key,
			filepath.Join(w.Home, "ssh", "known_hosts"), w.data, there, back, apart))
		w.same(t, there, back)
	}
}
