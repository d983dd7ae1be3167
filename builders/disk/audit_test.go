package disk

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExtractKernel(t *testing.T) {
	root := archive(t,
		entry{name: "./boot/", header: dir(0o755)},
		entry{name: "./boot/initrd.img-6", content: "initrd"},
		entry{name: "./boot/vmlinuz-5", content: "old kernel"},
		entry{name: "./boot/vmlinuz-6", content: "kernel"},
		entry{name: "./initrd.img", header: link("boot/initrd.img-6")},
		entry{name: "./vmlinuz", header: link("/boot/vmlinuz")},
		entry{name: "./boot/vmlinuz", header: link("vmlinuz-6")},
	)

	dir := t.TempDir()
	kernel, initrd := filepath.Join(dir, "k"), filepath.Join(dir, "i")
	if err := ExtractKernel(root, kernel, initrd); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{kernel: "kernel", initrd: "initrd"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	only(t, dir, "i", "k")
}

func TestExtractKernel_Missing(t *testing.T) {
	root := archive(t,
		entry{name: "./boot/initrd.img-6", content: ""},
		entry{name: "./initrd.img", header: link("boot/initrd.img-6")},
	)

	dangling := archive(t,
		entry{name: "./vmlinuz", header: link("boot/vmlinuz-6")},
		entry{name: "./initrd.img", header: link("initrd.img")},
	)

	for path, want := range map[string][]string{
		root:     {"/vmlinuz is missing", "/initrd.img leads to /boot/initrd.img-6, which is empty"},
		dangling: {"/vmlinuz leads to /boot/vmlinuz-6, which is missing", "/initrd.img is missing"},
	} {
		dir := t.TempDir()
		err := ExtractKernel(path, filepath.Join(dir, "k"), filepath.Join(dir, "i"))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("error %v, want …%s…", err, w)
			}
		}
		only(t, dir)
	}
}

// sealed is a root file system without a fault.
func sealed() []entry {
	return []entry{
		{name: "./", header: dir(0o755)},
		{name: "./etc/passwd", content: "root:x:0:0::/root:/bin/sh\nrockpool:x:990:990::/home/rockpool:/bin/sh\n"},
		{name: "./etc/group", content: "root:x:0:\nshadow:x:42:\nrockpool:x:990:\n"},
		{name: "./etc/shadow", content: "root:*:1:::::\nadmin:!*:1:::::\nrockpool:!:1:::::\n", header: tar.Header{Mode: 0o640, Gid: 42}},
		{name: "./etc/gshadow", content: "root:*::\nadmin:!::\nempty:::\n", header: tar.Header{Mode: 0o640, Gid: 42}},
		{name: "./etc/machine-id"},
		{name: "./home/rockpool/", header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o750, Uid: 990, Gid: 990}},
		{name: "./usr/bin/hello", content: "hello\n", header: tar.Header{Mode: 0o755}},
		{name: "./usr/bin/hello2", header: tar.Header{Typeflag: tar.TypeLink, Linkname: "./usr/bin/hello"}},
		{name: "./usr/bin/mount", content: "mount\n", header: tar.Header{Mode: 0o4755}},
		{name: "./usr/bin/ping", content: "ping\n", header: tar.Header{Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}},
		{name: "./usr/lib/real.distrib", content: "hello\n"},
		{name: "./usr/share/authorized_keys", content: "an example"},
		{name: "./var/lib/apt/lists/lock"},
		{name: "./var/lib/dpkg/diversions", content: "/lib/real\n/usr/lib/real.distrib\nother\n"},
		{name: "./var/lib/dpkg/info/hello.md5sums", content: "b1946ac92492d2347c6235b4d2611184  bin/hello\n" +
			"b1946ac92492d2347c6235b4d2611184  usr/bin/hello2\nb1946ac92492d2347c6235b4d2611184  lib/real\n" +
			"b1946ac92492d2347c6235b4d2611184  usr/share/doc/hello/README\n"},
	}
}

func TestVerifyRootfs_Sealed(t *testing.T) {
	s := spec("amd64")
	s.Suite = "none" // has no ownership list
	if err := verifyRootfs(s, archive(t, sealed()...)); err != nil {
		t.Error(err)
	}
}

func TestVerifyRootfs_AllFaultsAtOnce(t *testing.T) {
	s := spec("amd64")
	s.Suite = "none"
	late := tar.Header{ModTime: time.Unix(1760000001, 0)}
	root := archive(t, append(sealed(), []entry{
		{name: "./etc/gshadow-", content: "wheel:secret::\n"},
		{name: "./etc/machine-id", content: "0123456789abcdef0123456789abcdef\n"},
		{name: "./etc/shadow-", content: "root::1:::::\nadmin:$y$j9T$hash:1:::::\n"},
		{name: "./etc/ssh/ssh_host_ed25519_key", content: "key"},
		{name: "./etc/ssl/private/snakeoil.key", content: "key"},
		{name: "./home/admin/.ssh/authorized_keys", content: "ssh-ed25519 AAAA"},
		{name: "./usr/bin/late", content: "late", header: late},
		{name: "./var/cache/apt/archives/hello.deb", content: "deb"},
		{name: "./var/cache/apt/pkgcache.bin", content: "cache"},
		{name: "./var/lib/apt/lists/mirror_Packages", content: "list"},
		{name: "./var/lib/dbus/machine-id", content: "id"},
		{name: "./var/lib/dpkg/info/bad.md5sums", content: "00000000000000000000000000000000  usr/bin/mount\n" +
			"00000000000000000000000000000000  usr/bin/gone\n"},
		{name: "./var/lib/systemd/random-seed", content: "seed"},
	}...)...)

	err := verifyRootfs(s, root)
	if err == nil {
		t.Fatal("no fault was found")
	}
	golden(t, "faults.golden", err.Error()+"\n")
}

func TestOwnership(t *testing.T) {
	lines, err := Ownership(archive(t, sealed()...))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "ownership.golden", strings.Join(lines, "\n")+"\n")
}

func TestCompareOwnership(t *testing.T) {
	got := []string{
		"4755 root:root /usr/bin/mount",
		"0750 rockpool:rockpool /home/rockpool",
		"0644 rockpool:rockpool /home/rockpool/.config/x",
		"0644 admin:rockpool /home/rockpool/y",
		"4755 root:root /usr/bin/rootkit",
	}
	err := compareOwnership(got, "# list\n\n4755 root:root /usr/bin/mount\n4755 root:root /usr/bin/su\n- rockpool:rockpool /home/rockpool/**\n", "list.txt")
	want := "not in list.txt: 0644 admin:rockpool /home/rockpool/y\n" +
		"not in list.txt: 4755 root:root /usr/bin/rootkit\n" +
		"only in list.txt: 4755 root:root /usr/bin/su"
	if err == nil || err.Error() != want {
		t.Errorf("faults\n%v\nwant\n%s", err, want)
	}
	if err := compareOwnership(got[:2], got[0]+"\n"+got[1]+"\n", "list.txt"); err != nil {
		t.Error(err)
	}
}

func TestVerifySize(t *testing.T) {
	path := archive(t)
	if err := VerifySize(path, 1<<20); err != nil {
		t.Error(err)
	}
	if err := VerifySize(path, 1); err == nil || !strings.Contains(err.Error(), "its budget is") {
		t.Errorf("error %v, want the budget", err)
	}
}
