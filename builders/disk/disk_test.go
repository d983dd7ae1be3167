package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func spec(arch string) builders.Spec {
	s := builders.Spec{Architecture: arch, SourceDateEpoch: 1760000000}
	s.FillDefaults()
	return s
}

// entry is a file of a test's archive.
type entry struct {
	name    string
	content string
	header  tar.Header // what is not a regular file of root, 0644, made at the epoch
}

// archive writes entries as a tar.
func archive(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range withParents(entries) {
		h := e.header
		h.Name = e.name
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1750000000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// withParents puts the directories that entries lack before them.
func withParents(entries []entry) []entry {
	var all []entry
	seen := map[string]bool{"./": true}
	for _, e := range entries {
		for i, c := range e.name {
			if parent := e.name[:i+1]; c == '/' && parent != e.name && !seen[parent] {
				seen[parent] = true
				all = append(all, entry{name: parent, header: dir(0o755)})
			}
		}
		seen[e.name] = true
		all = append(all, e)
	}
	return all
}

// dir and link are headers of entries that are not regular files.
func dir(mode int64) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Mode: mode} }
func link(to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
}

// scripts is a toolbox whose programs are shell scripts.
type scripts struct{ dir string }

func (s scripts) Path(rel string) string { return filepath.Join(s.dir, rel) }
func (s scripts) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, s.Path(name), args...)
}

// stubs is a toolbox in which every program that Build needs succeeds, except
// for what programs says.
func stubs(t *testing.T, programs map[string]string) scripts {
	t.Helper()
	s := scripts{dir: t.TempDir()}
	all := map[string]string{
		"grub-mkimage": `while [ "$1" != -o ]; do shift; done; head -c 2048 /dev/zero >"$2"`,
		"mformat":      "", "mmd": "", "mcopy": "", "mke2fs": "", "qemu-img": "",
	}

	for name, body := range programs {
		all[name] = body
	}
	for name, body := range all {
		if err := os.WriteFile(s.Path(name), []byte("#!/bin/sh\nPATH=/usr/bin:/bin\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	boot := make([]byte, sectorSize)
	boot[510], boot[511] = 0x55, 0xaa
	if err := os.MkdirAll(s.Path("usr/lib/grub/i386-pc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path("usr/lib/grub/i386-pc/boot.img"), boot, 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// only fails unless dir holds just the named files.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("directory holds %q, want %q", got, names)
	}
}

func TestBuild_Failures(t *testing.T) {
	cases := map[string]struct {
		programs map[string]string
		want     string
	}{
		"too small": {
			map[string]string{"mke2fs": "echo 'mke2fs: Could not allocate block in ext2 filesystem' >&2; exit 1"},
			"does not fit a disk of 4096 MiB: raise DISK_SIZE",
		},
		"no libarchive": {
			map[string]string{"mke2fs": "echo 'you need libarchive to be able to process tarballs' >&2; exit 1"},
			"the tools tree lacks libarchive13t64",
		},
		"tool's words": {
			map[string]string{"grub-mkimage": "echo 'cannot open moddep.lst' >&2; exit 1"},
			"grub-mkimage: exit status 1: cannot open moddep.lst",
		},
		"core too large": {
			map[string]string{"grub-mkimage": `while [ "$1" != -o ]; do shift; done; head -c 2000000 /dev/zero >"$2"`},
			"core image of 2000000 bytes does not fit",
		},
		"no mtools": {
			map[string]string{"mcopy": "exit 3"},
			"put BOOTX64.EFI on the ESP: mcopy: exit status 3",
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := filepath.Join(dir, "disk.raw")
			if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Build(t.Context(), stubs(t, c.programs), spec("amd64"), archive(t), out)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want …%s…", err, c.want)
			}
			if b, _ := os.ReadFile(out); string(b) != "before" {
				t.Error("the disk of before was changed")
			}
			only(t, dir, "disk.raw")
		})
	}
}

func TestBuild_Cancelled(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	tb := stubs(t, map[string]string{"mke2fs": "touch " + started + "; exec sleep 60"})
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		_, err := Build(ctx, tb, spec("amd64"), archive(t), filepath.Join(dir, "disk.raw"))
		done <- err
	}()

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("mke2fs was not run")
		}
	}

	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("still running after cancellation")
	}
	only(t, dir)
}

func TestBuild_AfterKill(t *testing.T) {
	dir := t.TempDir()
	for _, left := range []string{".disk.raw123", ".disk.raw123.esp"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("left behind"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".disk.raw123.grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), stubs(t, nil), spec("amd64"), archive(t), filepath.Join(dir, "disk.raw")); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "disk.raw")
}

func TestQCOW2_Cancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	err := QCOW2(ctx, stubs(t, map[string]string{"qemu-img": "exec sleep 60"}), "x.raw", filepath.Join(dir, "x.qcow2"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want context.DeadlineExceeded", err)
	}
	only(t, dir)
}

func TestArguments(t *testing.T) {
	for _, arch := range builders.Architectures {
		s := spec(arch)
		layout := NewLayout(s)
		commands := [][]string{append([]string{"mke2fs"}, mke2fsArgs(s, layout.Root, "root.tar", "disk.raw")...)}
		for _, p := range platforms(s) {
			commands = append(commands, append([]string{"grub-mkimage"}, mkimageArgs(p, "modules", "grub.cfg", "core.img")...))
			if p.removable != "" {
				commands = append(commands, espCommands(s, layout.ESP, p.removable, "core.img", "disk.raw")...)
			}
		}

		commands = append(commands, append([]string{"qemu-img"}, convertArgs("disk.raw", "disk.qcow2")...))
		var b strings.Builder
		for _, c := range commands {
			b.WriteString(strings.Join(c, " ") + "\n")
		}

		golden(t, "commands-"+arch+".golden", b.String())
		golden(t, "grub-"+arch+".golden", grubConfig(s))
		table, err := json.MarshalIndent(layout, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "layout-"+arch+".golden", string(table)+"\n")
	}
}

func TestToolName(t *testing.T) {
	ctx := t.Context()
	cases := map[string]*exec.Cmd{
		"mke2fs":   exec.CommandContext(ctx, "/tree/lib64/ld-linux-x86-64.so.2", "--library-path", "/tree/lib", "/tree/usr/sbin/mke2fs", "-q"),
		"qemu-img": exec.CommandContext(ctx, "/tree/lib/ld-linux-aarch64.so.1", "--argv0", "x", "/tree/usr/bin/qemu-img"),
		"mcopy":    exec.CommandContext(ctx, "/usr/bin/mcopy", "x"),
	}
	for want, cmd := range cases {
		if got := toolName(cmd); got != want {
			t.Errorf("toolName(%q) = %q, want %q", cmd.Args, got, want)
		}
	}
}
