package templates_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/templates"
)

// TestCaddyfile_Valid asks Caddy itself, of any version from 2.6 on.
func TestCaddyfile_Valid(t *testing.T) {
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed: apt install caddy")
	}
	dir := t.TempDir()
	if err := templates.Write(dir, templates.Defaults()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(caddy, "adapt", "--config", filepath.Join(dir, "etc/rockpool/Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "ROCKPOOL_USERNAME=admin",
		"ROCKPOOL_PASSWORD_HASH=$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("caddy adapt: %v\n%s", err, out)
	}
}

func TestReportFailure_Shellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed: apt install shellcheck")
	}
	out, err := exec.Command(shellcheck, "testdata/golden/usr/local/lib/rockpool/report-failure").CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
