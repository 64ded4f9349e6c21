//go:build linux

package clients

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func puttyRows() []row {
	return []row{
		{client: "plink", use: "exec", needs: []string{"plink", "puttygen"}, run: plinkExec, commands: []string{"exec " + apart}},
		{client: "plink", use: "both ways through cat", needs: []string{"plink", "puttygen"}, more: true, run: plinkCat, moved: true, commands: []string{"exec cat"}},
		{client: "plink", use: "front CA unknown", needs: []string{"plink", "puttygen"}, run: plinkStranger, refused: true},
		{client: "pscp", use: "SFTP protocol", needs: []string{"pscp", "puttygen"}, run: pscp("-sftp"), moved: true, files: true, commands: []string{"subsystem sftp"}},
		{client: "pscp", use: "old protocol (-scp)", needs: []string{"pscp", "puttygen"}, more: true, run: pscp("-scp"), moved: true, files: true, commands: []string{"exec scp "}},
		{client: "psftp", use: "batch", needs: []string{"psftp", "puttygen"}, run: psftpBatch, moved: true, files: true, commands: []string{"subsystem sftp"}},
	}
}

// putty runs one of PuTTY's tools as a person does who has loaded key and certificate into one .ppk, and the front CA
// into PuTTY's list of host CAs. -loghost is to PuTTY what HostKeyAlias is to OpenSSH.
func (w *world) putty(t testing.TB, cas, input, tool string, args ...string) devtest.Result {
	t.Helper()
	ppk := w.fresh(t, "key.ppk")
	expect(t, w.Run("puttygen", w.key, "--certificate", w.key+"-cert.pub", "-O", "private", "-o", ppk), 0)
	argv := append([]string{"PUTTYSSHHOSTCAS=" + cas, "HOME=" + filepath.Dir(ppk), tool, "-batch", "-P", w.port, "-loghost", "dev-bastion",
		"-i", ppk, "-l", w.Host.Login + "%" + w.Host.Name}, args...)
	return w.RunInput(input, "env", argv...)
}

// hostCAs is the folder in which PuTTY keeps the CAs that it trusts (unix/storage.c): a file for each.
func (w *world) hostCAs(t testing.TB) string {
	t.Helper()
	known, err := os.ReadFile(filepath.Join(w.Home, "ssh", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(known)) // @cert-authority * ssh-ed25519 KEY
	if len(fields) < 4 {
		t.Fatalf("known_hosts: %q", known)
	}
	if _, err := base64.StdEncoding.DecodeString(fields[3]); err != nil {
		t.Fatal(err)
	}
	path := w.fresh(t, "sega")
	if err := os.WriteFile(path, fmt.Appendf(nil, "PublicKey=%s\nValidity=dev-bastion\nPermitRSASHA1=0\n", fields[3]), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

func plinkExec(t *testing.T, w *world) {
	tellApart(t, w.putty(t, w.hostCAs(t), "", "plink", "-ssh", w.addr, apart))
}

func plinkCat(t *testing.T, w *world) {
	content, err := os.ReadFile(w.data)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.putty(t, w.hostCAs(t), string(content), "plink", "-ssh", w.addr, "cat"); r.Code != 0 || r.Out != string(content) {
		t.Errorf("exit %d, %d bytes came back\n%s", r.Code, len(r.Out), r.Err)
	}
}

// plinkStranger has no CA for the bastion's key, and takes it for nobody's.
func plinkStranger(t *testing.T, w *world) {
	expect(t, w.putty(t, t.TempDir(), "", "plink", "-ssh", w.addr, "true"), 1, "host key")
}

func pscp(protocol string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		there, back, cas := w.fresh(t, "there"), w.fresh(t, "back"), w.hostCAs(t)
		expect(t, w.putty(t, cas, "", "pscp", "-q", protocol, w.data, w.addr+":"+there), 0)
		expect(t, w.putty(t, cas, "", "pscp", "-q", protocol, w.addr+":"+there, back), 0)
		w.same(t, there, back)
		expect(t, w.putty(t, cas, "", "pscp", "-q", protocol, w.addr+":"+there+"-not", back), 1, "o such file")
	}
}

func psftpBatch(t *testing.T, w *world) {
	there, back := w.fresh(t, "there"), w.fresh(t, "back")
	batch := w.save(t, "psftp", fmt.Sprintf("put %s %s\nget %s %s\nmv %s %s2\nmv %s2 %s\n", w.data, there, there, back, there, there, there, there))
	expect(t, w.putty(t, w.hostCAs(t), "", "psftp", "-b", batch, w.addr), 0)
	w.same(t, there, back)
	failing := w.save(t, "psftp-failing", fmt.Sprintf("get %s-not %s\n", there, back))
	expect(t, w.putty(t, w.hostCAs(t), "", "psftp", "-b", failing, w.addr), 2, "no such file")
}
