package bootstrap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// lockWith is a lock of packages, each "name version file size".
func lockWith(t *testing.T, date string, packages ...string) *PackageLock {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "Format: 1\nSuite: trixie\nArchitecture: amd64\nSet: rootvm\nDate: %s\nInclude: a\n", date)
	for _, p := range packages {
		f := strings.Fields(p)
		name, arch, foreign := strings.Cut(f[0], ":")
		if !foreign {
			arch = "amd64"
		}
		fmt.Fprintf(&b, "\nPackage: %s\nVersion: %s\nArchitecture: %s\nFilename: %s\nSize: %s\nSHA256: %064x\n", name, f[1], arch, f[2], f[3], len(f[2])*1000+len(f[3]))
	}
	l, err := ParsePackageLock(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPackageLock_WriteChanges(t *testing.T) {
	before := lockWith(t, "2026-11-01T00:00:00Z",
		"caddy 2.9 pool/c 1000000", "curl 8.9-1 pool/c 400000", "docs:all 1 pool/d 9000", "gone 1:2 pool/gone 70000",
		"libc6:i386 2.41-12 pool/l 10", "openssl 3.5.4-1~deb13u1 pool/openssl 1000000", "same 1 pool/same 5", "tilde 1.0 pool/t 10", "vim 9.1 pool/v 1000")
	now := lockWith(t, "2026-11-20T00:00:00Z",
		"caddy 2.10 pool/caddy 2000000", "curl 8.10-1 pool/curl 500000", "docs:all 1 pool/docs 9000", "libc6:i386 2.41-13 pool/libc 10",
		"new 0.1 pool/new 12345678", "openssl 3.5.4-1~deb13u2 pool/updates/openssl 1000100", "same 1 pool/same 5", "tilde 1.0~rc1 pool/tilde 10", "vim 2:9.0 pool/updates/vim 900")

	var b bytes.Buffer
	if err := now.WriteChanges(&b, before); err != nil {
		t.Fatal(err)
	}
	want := `trixie-amd64-rootvm.lock: 9 packages, 15.9 MB, as of 2026-11-20 (+13.4 MB): 2 security, 3 up, 1 down, 1 new, 1 gone, 1 rebuilt
  security  openssl     3.5.4-1~deb13u1 → 3.5.4-1~deb13u2  +0.1 kB
  security  vim         9.1 → 2:9.0                        -0.1 kB
  up        caddy       2.9 → 2.10                         +1.0 MB
  up        curl        8.9-1 → 8.10-1                     +0.1 MB
  up        libc6:i386  2.41-12 → 2.41-13                  +0.0 kB
  down      tilde       1.0 → 1.0~rc1                      +0.0 kB
  new       new         0.1                                +12.3 MB
  gone      gone        1:2                                -70.0 kB
  rebuilt   docs        1                                  +0.0 kB
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}

	for previous, want := range map[*PackageLock]string{now: "nothing changed", nil: "there was none before"} {
		b.Reset()
		if err := now.WriteChanges(&b, previous); err != nil || !strings.Contains(b.String(), want) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("said %q, %v, want %s", b.String(), err, want)
		}
	}
}
