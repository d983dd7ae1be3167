package rootvm

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// archive writes members, directories by a slash at the end, with their names
// as content.
func archive(t *testing.T, file string, modTime time.Time, members ...string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	w := tar.NewWriter(f)
	for _, name := range members {
		h := &tar.Header{Name: name, Mode: 0o4755, Uid: 7, ModTime: modTime, Typeflag: tar.TypeDir, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}
		if !strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(name))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, name); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLayOver appends to an archive of GNU tar, whose end mark fills a record.
func TestLayOver(t *testing.T) {
	dir := t.TempDir()
	tree, to, from := filepath.Join(dir, "tree"), filepath.Join(dir, "to.tar"), filepath.Join(dir, "from.tar")
	if err := os.MkdirAll(filepath.Join(tree, "usr/share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/last"), []byte("last"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "--create", "--format=posix", "--file="+to, "--directory="+tree, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}

	epoch := time.Unix(1000, 0)
	archive(t, from, time.Unix(2000, 0), "./usr/", "./usr/share/", "./usr/share/w/", "./usr/share/w/su")
	if err := layOver(to, from, epoch); err != nil {
		t.Fatal(err)
	}

	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}

	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}

		names = append(names, h.Name)
		if h.Name != "./usr/share/w/su" {
			continue
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != h.Name {
			t.Errorf("content = %q, %v", b, err)
		}
		if h.Uid != 7 || h.Mode != 0o4755 || !h.ModTime.Equal(epoch) || h.PAXRecords["SCHILY.xattr.security.capability"] != "x" {
			t.Errorf("header = %+v", h)
		}
	}

	slices.Sort(names)
	if got := strings.Join(names, " "); got != "./ ./usr/ ./usr/last ./usr/share/ ./usr/share/w/ ./usr/share/w/su" {
		t.Errorf("members = %s", got)
	}
	if err := layOver(to, from, epoch); err == nil || !strings.Contains(err.Error(), "./usr/share/w/su is there already") {
		t.Errorf("a second overlay: %v", err)
	}
}
