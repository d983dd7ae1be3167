package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// toolsLock makes packages with dpkg-deb in the cache: base-files with the
// links of a merged /usr, and one with a loader, a program and a file below
// /lib.
func toolsLock(t *testing.T, cache Cache) *PackageLock {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb(1) is missing: install dpkg")
	}
	if err := os.MkdirAll(filepath.Join(cache.Dir, "debs"), 0o755); err != nil {
		t.Fatal(err)
	}

	text := "Format: 1\nSuite: trixie\nArchitecture: " + runtime.GOARCH + "\nSet: tools\nDate: 2026-01-02T03:04:05Z\nInclude: a-tool\n"
	loader := "lib64/ld-linux-x86-64.so.2"
	if runtime.GOARCH == "arm64" {
		loader = "lib/ld-linux-aarch64.so.1"
	}

	for _, p := range []struct {
		name  string
		files map[string]string
		links map[string]string
	}{
		{"a-tool", map[string]string{"usr/bin/tool": "#!", loader: "#!/bin/sh\nshift 4\necho \"$@\"\n", "lib/data": "x"}, nil},
		{"base-files", map[string]string{"usr/lib/keep": "", "usr/lib64/keep": ""}, map[string]string{"lib": "usr/lib", "lib64": "usr/lib64"}},
	} {
		text += "\n" + makePackage(t, cache, p.name, p.files, p.links)
	}

	l, err := ParsePackageLock(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func makePackage(t *testing.T, cache Cache, name string, files, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["DEBIAN/control"] = "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
	for file, content := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	for link, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}

	deb := filepath.Join(t.TempDir(), "deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}

	b, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}

	sha := fmt.Sprintf("%x", sha256.Sum256(b))
	if err := os.WriteFile(cache.deb(sha), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nFilename: pool/%s.deb\nSize: %d\nSHA256: %s\n", name, name, len(b), sha)
}

func TestFetcher_Tools(t *testing.T) {
	f := &Fetcher{Cache: Cache{Dir: t.TempDir()}}
	l := toolsLock(t, f.Cache)
	tools := make([]*Tools, 4)
	var wg sync.WaitGroup
	for i := range tools {
		wg.Go(func() {
			var err error
			if tools[i], err = f.toolsOf(t.Context(), l); err != nil {
				t.Error(err)
			}
		})
	}

	wg.Wait()
	if t.Failed() {
		return
	}
	if b, err := os.ReadFile(tools[0].Path("usr/lib/data")); err != nil || string(b) != "x" {
		t.Errorf("/lib is not part of /usr/lib: %q, %v", b, err)
	}

	out, err := tools[0].Command(t.Context(), "tool", "a b", "c").Output()
	if want := tools[0].Path("usr/bin/tool") + " a b c\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want the program run by the loader: %q", out, err, want)
	}

	cmd := tools[0].Command(t.Context(), "none")
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "none is not in the tools tree") {
		t.Errorf("got %v, want an error that names the tool", err)
	}
	if !slices.ContainsFunc(tools[0].Command(t.Context(), "tool").Env, func(s string) bool { return strings.HasPrefix(s, "MKE2FS_CONFIG="+tools[0].Dir) }) {
		t.Error("mke2fs would read the host's configuration")
	}
}

// TestFetcher_Tools_Damaged: a program that a power cut left empty is noticed,
// named and made again.
func TestFetcher_Tools_Damaged(t *testing.T) {
	var said []string
	f := &Fetcher{Cache: Cache{Dir: t.TempDir(), Say: func(line string) { said = append(said, line) }}}
	l := toolsLock(t, f.Cache)
	tools, err := f.toolsOf(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	program := tools.Path("usr/bin/tool")
	before, err := os.ReadFile(program)
	if err := errors.Join(err, os.Chmod(program, 0o755), os.Truncate(program, 0)); err != nil {
		t.Fatal(err)
	}

	again, err := f.toolsOf(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(again.Path("usr/bin/tool"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the program has %d bytes, %v, want %d", len(after), err, len(before))
	}
	if len(said) == 0 || !strings.Contains(said[0], "usr/bin/tool") {
		t.Errorf("said %q, want the damaged program", said)
	}
}
