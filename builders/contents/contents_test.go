package contents_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/disk"
)

// tree is the tools tree that mage passes when its cache has one.
type tree string

func (t tree) Path(rel string) string { return filepath.Join(string(t), rel) }

func (t tree) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	program := t.Path("usr/bin/" + name)
	if _, err := os.Stat(program); err != nil {
		program = t.Path("usr/sbin/" + name)
	}
	argv := append([]string{"--library-path", t.Path("usr/lib/x86_64-linux-gnu"), program}, args...)
	return exec.CommandContext(ctx, t.Path("lib64/ld-linux-x86-64.so.2"), argv...)
}

func tools(t *testing.T) tree {
	t.Helper()
	dir := os.Getenv("ROCKPOOL_TEST_TOOLS")
	if dir == "" {
		t.Skip("ROCKPOOL_TEST_TOOLS is not set: `go tool mage rootvm:build` once, then `go tool mage test`")
	}
	return tree(dir)
}

// rootfs is an archive with every kind of file.
func rootfs(t *testing.T, passwd string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.ModTime, h.Size = time.Unix(1750000000, 0), int64(len(content))
		if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeDir {
			h.Size = 0
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}

	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) string {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		return string(content)
	}
	for _, dir := range []string{"./", "./etc/", "./usr/", "./usr/bin/", "./many/"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	add(tar.Header{Name: "./etc/passwd", Mode: 0o644}, passwd)
	add(tar.Header{Name: "./etc/empty", Mode: 0o600, Uid: 1, Gid: 100000}, "")
	add(tar.Header{Name: "./usr/bin/large", Mode: 0o4755}, noise(3<<20))
	add(tar.Header{Name: "./usr/bin/block", Mode: 0o755}, noise(4096))
	add(tar.Header{Name: "./usr/bin/ping", Mode: 0o755, PAXRecords: map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}}, noise(5000))
	add(tar.Header{Name: "./usr/bin/second", Typeflag: tar.TypeLink, Linkname: "./usr/bin/block"}, "")
	add(tar.Header{Name: "./etc/short", Typeflag: tar.TypeSymlink, Linkname: "passwd", Mode: 0o777}, "")
	add(tar.Header{Name: "./etc/long", Typeflag: tar.TypeSymlink, Linkname: "/" + strings.Repeat("long/", 20), Mode: 0o777}, "")
	for i := range 300 { // a directory with an index
		add(tar.Header{Name: fmt.Sprintf("./many/%s-%03d", strings.Repeat("long", 20), i), Mode: 0o644}, fmt.Sprint(i))
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

const passwd = "root:x:0:0::/root:/bin/sh\n"

// image makes a disk by the project's own builders, and a list of it.
func image(t *testing.T, passwd string) (raw, qcow2 string, list *contents.List) {
	t.Helper()
	tb := tools(t)
	spec := builders.Spec{Suite: "trixie", Architecture: "amd64", DiskSize: 512 * builders.MiB, SourceDateEpoch: 1760000000}
	raw = filepath.Join(t.TempDir(), "disk.raw")
	qcow2 = filepath.Join(t.TempDir(), "disk.qcow2")
	if _, err := disk.Build(t.Context(), tb, spec, rootfs(t, passwd), raw); err != nil {
		t.Fatal(err)
	}
	if err := disk.QCOW2(t.Context(), tb, raw, qcow2); err != nil {
		t.Fatal(err)
	}
	made, err := contents.Of(t.Context(), open(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := made.AddQCOW2(qcow2); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "list")
	if err := made.Write(file); err != nil {
		t.Fatal(err)
	}
	if list, err = contents.Read(file); err != nil {
		t.Fatal(err)
	}
	return raw, qcow2, list
}

func open(t *testing.T, raw string) contents.Disk {
	t.Helper()
	d, err := contents.OpenRaw(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// flipped is a disk with one byte that is another one.
type flipped struct {
	contents.Disk
	at int64
}

func (d flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.Disk.ReadAt(p, off)
	if d.at >= off && d.at < off+int64(n) {
		p[d.at-off] ^= 0x40
	}
	return n, err
}

func (d flipped) NextData(start, end int64) (from, to int64, err error) {
	from, to, err = d.Disk.NextData(start, end)
	if err == nil && d.at >= start && d.at < from {
		return d.at, d.at + 1, nil
	}
	return from, to, err
}

func compare(t *testing.T, list *contents.List, d contents.Disk) []contents.Fault {
	t.Helper()
	faults, err := list.Compare(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return faults
}

// TestContents: one small disk, looked at in every way.
func TestContents(t *testing.T) {
	raw, qcow2, list := image(t, passwd)
	d := open(t, raw)
	t.Run("every region", func(t *testing.T) { testEveryRegion(t, list, d) })
	t.Run("named bytes", func(t *testing.T) { testNamedBytes(t, list, d) })
	t.Run("qcow2", func(t *testing.T) { testQCOW2(t, list, qcow2) })
	t.Run("image", func(t *testing.T) { testImage(t, list, raw, qcow2) })
	t.Run("another disk", func(t *testing.T) { testDifferences(t, list) })
	t.Run("deterministic", func(t *testing.T) { testDeterministic(t, d) })
	t.Run("damaged", func(t *testing.T) { testDamaged(t, list, d) })
}

// testEveryRegion flips one byte in regions of every kind: that region is named,
// and nothing else.
func testEveryRegion(t *testing.T, list *contents.List, d contents.Disk) {
	if faults := compare(t, list, d); len(faults) > 0 {
		t.Fatalf("the disk itself: %v", faults)
	}

	random := rand.New(rand.NewPCG(3, 4))
	kinds := map[string]int{}
	for _, r := range list.Regions {
		if len(r.At) == 0 || r.Part == contents.QCOW2 {
			continue
		}
		kind := r.Part + " " + r.Kind
		if r.Kind == contents.Structure {
			kind += " " + strings.Trim(r.Name, " 0123456789")
		}
		if kinds[kind]++; kinds[kind] > 2 {
			continue
		}
		e := r.At[random.IntN(len(r.At))]
		at := e.Start + random.Int64N(e.Length)
		faults := compare(t, list, flipped{d, at})
		if len(faults) != 1 || faults[0].Place != r.String() || faults[0].Why == "" {
			t.Errorf("byte %d of %s: %v", at-e.Start, r, faults)
		}
	}
	if len(kinds) < 30 || kinds["root file"] < 300 || kinds["esp file"] != 1 || kinds["root hard link"] != 0 {
		t.Errorf("kinds of regions: %v", kinds)
	}
}

// testNamedBytes flips single bytes whose meaning is known.
func testNamedBytes(t *testing.T, list *contents.List, d contents.Disk) {
	find := func(part, name string) contents.Region {
		for _, r := range list.Regions {
			if r.Part == part && r.Name == name {
				return r
			}
		}
		t.Fatalf("no region %s of %s", name, part)
		return contents.Region{}
	}
	const inodeSize, root = 256, "root"
	inode := func(name string) int64 {
		return find(root, "inode table of group 0").At[0].Start + int64(find(root, name).Inode-1)*inodeSize
	}
	layout := list.Partitions

	for name, c := range map[string]struct {
		at   int64
		want string
	}{
		"attributes of a partition": {find(contents.Table, "primary GPT entry of partition 3").At[0].Start + 48, "partition table: primary GPT entry of partition 3: attributes is 0x800000000000040 instead of 0x800000000000000"},
		"backup of the table":       {find(contents.Table, "backup GPT header").At[0].Start + 17, "partition table: backup GPT header: header CRC is "},
		"boot loader of a BIOS":     {layout[0].Start + 700, "partition bios-boot: core image of GRUB: its content"},
		"cluster size of the ESP":   {layout[1].Start + 13, "partition esp: boot sector: sectors per cluster is 0x41 instead of 0x1"},
		"chain of clusters":         {find("esp", "file allocation table 2").At[0].Start + 9, "partition esp: file allocation table 2: its content"},
		"boot loader of UEFI":       {find("esp", "/EFI/BOOT/BOOTX64.EFI").At[0].Start + 99, "partition esp: file /EFI/BOOT/BOOTX64.EFI: its content"},
		"name on the ESP":           {find("esp", "/EFI/BOOT").At[0].Start + 65, "partition esp: directory /EFI/BOOT: its content"},
		"UUID of the root":          {layout[2].Start + 1024 + 104, "partition root: superblock: s_uuid is "},
		"content of a file":         {find(root, "/etc/passwd").At[0].Start + 3, "partition root: file /etc/passwd: its content"},
		"behind a file":             {find(root, "/etc/passwd").At[0].Start + 4000, "partition root: file /etc/passwd: what follows its end"},
		"target of a link":          {find(root, "/etc/long").At[0].Start + 10, "partition root: symbolic link /etc/long: its content"},
		"name of a file":            {find(root, "/etc").At[0].Start + 40, "partition root: directory /etc: its content"},
		"capability of a program":   {inode("/usr/bin/ping") + 250, "of /usr/bin/ping does not match its checksum"},
		"mode of a file":            {inode("/usr/bin/large"), "inode 19 of /usr/bin/large: mode is 104655 instead of 104755"},
		"owner of a file":           {inode("/etc/empty") + 2, "of /etc/empty: uid is 65 instead of 1"},
		"checksum of an inode":      {inode("/etc/short") + 124, "of /etc/short does not match its checksum"},
		"inode nobody has":          {find(root, "inode table of group 0").At[0].Start + 4000*inodeSize, "inode 4001 does not match its checksum"},
		"journal":                   {find(root, "journal").At[0].Start + 5<<20, "partition root: journal: byte "},
		"between partitions":        {layout[2].Start + layout[2].Size + 5000, "unused space outside of the partitions: byte "},
		"unused block":              {layout[2].Start + layout[2].Size - 5000, "partition root: unused space: byte "},
	} {
		faults := compare(t, list, flipped{d, c.at})
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, faults, c.want)
		}
	}
}

// testQCOW2: what the qcow2 holds is the disk, and a flipped byte of its
// own structures or of its clusters is named.
func testQCOW2(t *testing.T, list *contents.List, path string) {
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tables []contents.Region
	for _, r := range list.Regions {
		if r.Part == contents.QCOW2 {
			tables = append(tables, r)
		}
	}

	check := func(at int64) []contents.Fault {
		damaged := bytes.Clone(sound)
		if at >= 0 {
			damaged[at] ^= 0x40
		}
		file := filepath.Join(t.TempDir(), "damaged.qcow2")
		if err := os.WriteFile(file, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		faults, err := list.CompareQCOW2(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return faults
	}

	if faults := check(-1); len(faults) > 0 {
		t.Fatalf("the qcow2 itself: %v", faults)
	}
	for at, want := range map[int64]string{
		3:   "qcow2: header: magic is ",
		7:   "qcow2: header: version is 0x43 instead of 0x3",
		23:  "qcow2: header: cluster_bits is 0x50 instead of 0x10",
		30:  "qcow2: header: size is ",
		39:  "qcow2: header: l1_size is 0x41 instead of 0x1",
		104: "qcow2: header: compression_type is 0x41 instead of 0x1",
	} {
		if faults := check(at); len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), want) {
			t.Errorf("byte %d of the header: %v, want %s…", at, faults, want)
		}
	}
	for _, r := range tables {
		if faults := check(r.At[0].Start + min(r.Size-1, 5)); len(faults) != 1 || faults[0].Place != r.String() {
			t.Errorf("%s: %v", r, faults)
		}
	}

	// The large file is the largest part of the clusters.
	faults := check(int64(len(sound)) / 2)
	if len(faults) == 0 || faults[0].Place != "partition root: file /usr/bin/large" {
		t.Errorf("a cluster in the middle: %v", faults)
	}
}

// testImage: files of an image are checked by its manifest.
func testImage(t *testing.T, list *contents.List, raw, qcow2 string) {
	block, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list.Regions {
		if r.Name == "/usr/bin/block" {
			block = block[r.At[0].Start:][:r.Size]
		}
	}

	dir := t.TempDir()
	m := builders.Manifest{Name: "image"}
	add := func(file, format string, write func(path string) error) {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := write(path); err != nil {
			t.Fatal(err)
		}
		a, err := builders.Describe(path, format)
		if err != nil {
			t.Fatal(err)
		}
		a.File = file
		m.SetArtifacts(a)
	}
	add("image.qcow2", "qcow2", func(path string) error { return os.Link(qcow2, path) })
	add("image.contents.zst", contents.Format, list.Write)
	add("image.vmlinuz", "kernel", func(path string) error { return os.WriteFile(path, block, 0o644) })
	add("image.tart/disk.img", builders.TartFormat, func(path string) error { return os.Link(raw, path) })
	add("image.tart/config.json", builders.TartFormat, func(path string) error { return os.WriteFile(path, []byte("{}"), 0o644) })
	if err := m.Write(filepath.Join(dir, "image.manifest.json")); err != nil {
		t.Fatal(err)
	}

	check := func(file, manifest string) (faults []string) {
		t.Helper()
		image, err := contents.Find(file, manifest)
		if err != nil {
			t.Fatal(err)
		}
		found, err := image.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			faults = append(faults, f.Error())
		}
		return faults
	}
	expect := func(faults []string, want ...string) {
		t.Helper()
		if len(faults) != len(want) {
			t.Fatalf("faults %q, want %q", faults, want)
		}
		for i, w := range want {
			if !strings.HasPrefix(faults[i], w) {
				t.Errorf("fault %q, want %s…", faults[i], w)
			}
		}
	}

	for _, file := range []string{"image.manifest.json", "image.qcow2", "image.vmlinuz", "image.tart", "image.contents.zst"} {
		expect(check(filepath.Join(dir, file), ""))
	}

	// A Tart VM is known by its disk, whatever Tart calls it.
	vm := filepath.Join(t.TempDir(), "vm")
	copySparse(t, filepath.Join(dir, "image.tart"), vm)
	manifest := filepath.Join(dir, "image.manifest.json")
	flip(t, filepath.Join(vm, "disk.img"), list.Partitions[2].Start+1024+120)
	expect(check(vm, manifest), "image.tart/disk.img: its SHA-256 is ", "image.tart/disk.img: partition root: superblock: s_volume_name is ")
	if _, err := contents.Find(vm, ""); err == nil || !strings.Contains(err.Error(), "give it with --manifest FILE") {
		t.Errorf("without a manifest: %v", err)
	}

	copied := filepath.Join(t.TempDir(), "copy")
	copySparse(t, dir, copied)
	flip(t, filepath.Join(copied, "image.vmlinuz"), 1234)
	flip(t, filepath.Join(copied, "image.tart/config.json"), 1)
	expect(check(filepath.Join(copied, "image.manifest.json"), ""),
		"image.tart/config.json: its SHA-256 is ",
		"image.vmlinuz: its SHA-256 is ", "image.vmlinuz: where: from its byte 1234 on it is not /usr/bin/block of the disk")

	if err := os.Truncate(filepath.Join(copied, "image.vmlinuz"), 100); err != nil {
		t.Fatal(err)
	}
	expect(check(filepath.Join(copied, "image.vmlinuz"), ""), "image.vmlinuz: is cut off: it has 100 bytes of 4096")
	if err := os.Remove(filepath.Join(copied, "image.tart/config.json")); err != nil {
		t.Fatal(err)
	}
	expect(check(filepath.Join(copied, "image.tart"), ""), "image.tart/config.json: is missing")

	flip(t, filepath.Join(copied, "image.contents.zst"), 100)
	flip(t, filepath.Join(copied, "image.qcow2"), 22)
	expect(check(filepath.Join(copied, "image.qcow2"), ""), "image.contents.zst: its SHA-256 is ",
		"image.qcow2: its SHA-256 is ", "image.qcow2: where: is not known without the list")
}

// copySparse copies a directory whose files have holes.
func copySparse(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-R", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// flip changes a byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// testDifferences: of another build the list says which file is another one.
func testDifferences(t *testing.T, list *contents.List) {
	if faults := contents.Differences(list, list); len(faults) > 0 {
		t.Errorf("a list and itself: %v", faults)
	}
	_, _, other := image(t, strings.ToUpper(passwd))
	faults := contents.Differences(list, other)
	if len(faults) == 0 || faults[0].Error() != "partition root: file /etc/passwd: its content is another one" {
		t.Errorf("another /etc/passwd: %v", faults)
	}
	for _, f := range faults[1:] {
		// The qcow2's clusters have other sizes.
		if !strings.HasPrefix(f.Place, "qcow2: ") {
			t.Errorf("another /etc/passwd: %v", f)
		}
	}
}

// testDeterministic: the list is a function of the disk.
func testDeterministic(t *testing.T, d contents.Disk) {
	var files [2][]byte
	for i := range files {
		l, err := contents.Of(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "list")
		if err := l.Write(path); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two lists of one disk differ")
	}
}

// testDamaged: no list is made of a disk that is not sound.
func testDamaged(t *testing.T, list *contents.List, d contents.Disk) {
	root := list.Partitions[2]
	for at, want := range map[int64]string{
		512 + 2:                     "it is no GPT",
		root.Start + 1024 + 56:      "it is no ext4",
		root.Start + 1024 + 97:      "features that we do not know",
		root.Start + root.Size - 60: "partition root: unused space",
		list.Partitions[1].Start:    "", // a boot sector has no checksum
	} {
		_, err := contents.Of(t.Context(), flipped{d, at})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("byte %d: %v, want …%s…", at, err, want)
		}
	}
}
