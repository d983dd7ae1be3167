package toolchain

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRevision: a file that goes into what is made counts before git tracks it.
func TestRevision(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.org"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	write := func(path, content string) {
		t.Helper()
		file := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	dirty := regexp.MustCompile(`^[0-9a-f]{12}(-dirty)?$`)
	check := func(what string, all, part bool) {
		t.Helper()
		for _, tt := range []struct {
			name, got string
			want      bool
		}{{"Revision", Revision(t.Context(), dir, "part"), all}, {"RevisionOf", RevisionOf(t.Context(), dir, "part"), part}} {
			m := dirty.FindStringSubmatch(tt.got)
			if m == nil || (m[1] != "") != tt.want {
				t.Errorf("%s: %s = %q, want dirty: %v", what, tt.name, tt.got, tt.want)
			}
		}
	}

	if got := Revision(t.Context(), dir, "part") + RevisionOf(t.Context(), dir, "part"); got != "" {
		t.Errorf("without git: %q", got)
	}
	run("init", "-q")
	write("part/file", "one")
	write("other/file", "one")
	write(".gitignore", "*.tmp\n")
	run("add", "-A")
	run("commit", "-q", "-m", "x")
	check("clean", false, false)

	write("part/ignored.tmp", "")
	write("other/new", "")
	check("an ignored file, and one elsewhere", false, false)
	write("part/new", "")
	check("a file that is not tracked", true, true)
	if err := os.Remove(filepath.Join(dir, "part/new")); err != nil {
		t.Fatal(err)
	}
	write("other/file", "two")
	check("a tracked file elsewhere", true, false)
	write("part/file", "two")
	check("a tracked file", true, true)
}

// TestCompilers: another C compiler, or another setting of Go's, is another one.
func TestCompilers(t *testing.T) {
	cc := filepath.Join(t.TempDir(), "cc")
	write := func(version string) {
		t.Helper()
		if err := os.WriteFile(cc, []byte("#!/bin/sh\necho "+version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("cc 1")
	t.Setenv("CC", cc+" -pipe")
	digest := func() string {
		t.Helper()
		d, err := Compilers(t.Context(), ".")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	first := digest()
	if again := digest(); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	write("cc 2")
	second := digest()
	if second == first {
		t.Error("another C compiler goes unnoticed")
	}
	t.Setenv("GOAMD64", "v3")
	if digest() == second {
		t.Error("another setting of Go's goes unnoticed")
	}
	t.Setenv("CC", filepath.Join(t.TempDir(), "none"))
	if _, err := Compilers(t.Context(), "."); err == nil || !strings.Contains(err.Error(), "none --version") {
		t.Errorf("without a C compiler: %v", err)
	}
}
