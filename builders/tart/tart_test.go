package tart

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart/tartcheck"
)

func spec() builders.Spec {
	s := builders.Spec{Architecture: builders.TartArchitecture, SourceDateEpoch: 1_700_000_000}
	s.FillDefaults()
	return s
}

// part is a run of bytes of a disk, which is zeros elsewhere.
type part struct {
	at     int64
	random int // bytes that do not compress
	text   int // bytes after them that do
}

// makeDisk writes a disk. Where it is sparse, what is not in parts is a hole.
func makeDisk(t testing.TB, size int64, sparse bool, parts ...part) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if !sparse {
		if _, err := io.CopyN(f, zeroReader{}, size); err != nil {
			t.Fatal(err)
		}
	}

	random := rand.NewChaCha8([32]byte{1})
	for _, p := range parts {
		b := make([]byte, p.random)
		_, _ = random.Read(b)
		for n := 0; len(b) < p.random+p.text; n++ {
			b = fmt.Appendf(b, "line %d of a file that is like others\n", n%1000)
		}
		if _, err := f.WriteAt(b[:p.random+p.text], p.at); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tree are the files below dir by their modes and digests.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		files[rel] = info.Mode().String()
		if !d.IsDir() {
			sum := sha256.Sum256(read(t, path))
			files[rel] += " " + hex.EncodeToString(sum[:])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestNVRAM(t *testing.T) {
	b := nvram()
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); len(b) != 131072 || got != "8b8dccf70d6393cffae2428b730120fe0695a8e05207131f56c0f8bb2da8c1da" {
		t.Errorf("%d bytes with the SHA-256 %s", len(b), got)
	}
}

func TestConfig_Validate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"amd64":            {func(c *Config) { c.Arch = "amd64" }, "Tart runs arm64 only"},
		"one processor":    {func(c *Config) { c.CPUCount, c.CPUCountMin = 1, 1 }, "reboot fails"},
		"below minimum":    {func(c *Config) { c.CPUCount, c.CPUCountMin = 2, 4 }, "no less than the minimum"},
		"no memory":        {func(c *Config) { c.MemorySize = 1 }, "memorySize"},
		"multicast":        {func(c *Config) { c.MACAddress = "03:00:00:00:00:01" }, "locally administered"},
		"no MAC":           {func(c *Config) { c.MACAddress = "" }, "locally administered"},
		"global MAC":       {func(c *Config) { c.MACAddress = "00:00:00:00:00:01" }, "locally administered"},
		"no display":       {func(c *Config) { c.Display.Width = 0 }, "no size"},
		"another format":   {func(c *Config) { c.DiskFormat = "asif" }, "diskFormat"},
		"several at once":  {func(c *Config) { c.Arch, c.Display.Width = "amd64", 0 }, "no size"},
		"nothing is wrong": {func(*Config) {}, ""},
	} {
		config := New(spec(), "").Config
		c.change(&config)
		err := config.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// TestNew_MACAddress: two builds have the same, two images do not.
func TestNew_MACAddress(t *testing.T) {
	bookworm := spec()
	bookworm.Suite = "bookworm"
	a, b := New(spec(), "").Config.MACAddress, New(bookworm, "").Config.MACAddress
	if a == b || a != New(spec(), "other").Config.MACAddress {
		t.Errorf("trixie has %s, bookworm %s", a, b)
	}
}

// TestImage_WriteDirectory writes a disk of 64 MB, whatever the umask.
func TestImage_WriteDirectory(t *testing.T) {
	disk := makeDisk(t, 64e6, true, part{at: 1 << 20, random: 5000, text: 3 << 20}, part{at: 64e6 - 512, text: 512})
	dir := filepath.Join(t.TempDir(), "root.tart")
	old := unix.Umask(0o077)
	err := New(spec(), disk).WriteDirectory(t.Context(), dir)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}

	if err := tartcheck.Directory(dir); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(read(t, dir, "disk.img"), read(t, disk)) {
		t.Error("disk.img is not the disk")
	}
	if from, to := blocks(t, disk), blocks(t, filepath.Join(dir, "disk.img")); to > from+64 {
		t.Errorf("the disk takes %d blocks, disk.img %d", from, to)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory's mode is %v, %v", info.Mode(), err)
	}
}

// blocks are the 512 bytes that a file takes on its file system.
func blocks(t *testing.T, file string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

// TestImage_WriteLayout writes a disk of 64 MB and has it unpacked again.
func TestImage_WriteLayout(t *testing.T) {
	disk := makeDisk(t, 64e6, true, part{at: 1 << 20, random: 500_000, text: 3 << 20}, part{at: 64e6 - 512, text: 512})
	dir := filepath.Join(t.TempDir(), "root.tart.oci")
	image := New(spec(), disk)
	for range 2 { // again, over what is there
		if err := image.WriteLayout(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if err := tartcheck.Layout(t.Context(), dir, disk); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); names != nil {
		t.Errorf("left over: %v", names)
	}
}

const testChunk = 1 << 20

// writeChunks writes a layout of several chunks.
func writeChunks(t testing.TB, disk string, workers int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root.tart.oci")
	w := layoutWriter{image: New(spec(), disk), chunkSize: testChunk, workers: workers}
	if err := w.write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// severalChunks has data in the first of its seven chunks, in the fourth and the
// fifth, and in the last, which is shorter. The others are zeros.
func severalChunks(t testing.TB, sparse bool) string {
	t.Helper()
	return makeDisk(t, 6*testChunk+4096, sparse,
		part{at: 4096, random: 70_000, text: 100_000},
		part{at: 4*testChunk - 300_001, random: 100, text: 600_000},
		part{at: 6*testChunk + 512, random: 1})
}

// manifestDigest is that of severalChunks' artifact. Where it changes, users get
// the whole disk anew: the compressor's bytes, or the formats, are not what they
// were.
const manifestDigest = "sha256:9781576efa6dd06f13a23e5834dd7a5a7279cb625e79158b4e0cb0c6e0663b42"

// TestLayout_SameBytes: the number of workers and the disk's holes do not matter.
func TestLayout_SameBytes(t *testing.T) {
	sparse, full := severalChunks(t, true), severalChunks(t, false)
	want := tree(t, writeChunks(t, sparse, 1))
	for _, workers := range []int{1, 2, 7} {
		for name, disk := range map[string]string{"with holes": sparse, "without": full} {
			got := tree(t, writeChunks(t, disk, workers))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%d workers, a disk %s: %v\nwant %v", workers, name, got, want)
			}
		}
	}

	var index struct {
		Manifests []struct{ Digest string }
	}
	dir := writeChunks(t, sparse, 2)
	unmarshal(t, read(t, dir, "index.json"), &index)
	if got := index.Manifests[0].Digest; got != manifestDigest {
		t.Errorf("the manifest is %s, and was %s", got, manifestDigest)
	}
}

// TestLayout_ZerosOnce: the three chunks that are zeros are one blob.
func TestLayout_ZerosOnce(t *testing.T) {
	disk := severalChunks(t, true)
	dir := writeChunks(t, disk, 2)
	if err := tartcheck.Layout(t.Context(), dir, disk); err != nil {
		t.Fatal(err)
	}
	m := readManifest(t, dir)
	digests := map[string]bool{}
	for _, layer := range m.Layers[1 : len(m.Layers)-1] {
		digests[layer.Digest] = true
	}
	// The manifest, its config, config.json and nvram.bin beside them.
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if len(m.Layers) != 9 || len(digests) != 5 || len(blobs) != 9 || err != nil {
		t.Errorf("%d layers, %d blobs of the disk, %d in all, %v", len(m.Layers), len(digests), len(blobs), err)
	}
}

// TestImage_FaultsLeaveNothing: a write that fails, or is cancelled, leaves what
// was there, and nothing beside it.
func TestImage_FaultsLeaveNothing(t *testing.T) {
	good := makeDisk(t, 4<<20, true, part{at: 4096, random: 100_000})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		disk   string
		change func(*Image)
		want   string
	}{
		"cancelled":     {ctx: cancelled, want: "context canceled"},
		"odd disk":      {disk: makeDisk(t, 4<<20+511, true), want: "multiple of 512"},
		"empty disk":    {disk: makeDisk(t, 0, true), want: "multiple of 512"},
		"no disk":       {disk: filepath.Join(t.TempDir(), "none"), want: "no such file"},
		"a directory":   {disk: t.TempDir(), want: "is no file"},
		"amd64":         {change: func(i *Image) { i.Config.Arch = "amd64" }, want: "ARCH=arm64"},
		"one processor": {change: func(i *Image) { i.Config.CPUCount, i.Config.CPUCountMin = 1, 1 }, want: "reboot"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			if c.disk == "" {
				c.disk = good
			}
			image := New(spec(), c.disk)
			if c.change != nil {
				c.change(&image)
			}
			for _, write := range []func(context.Context, string) error{image.WriteDirectory, image.WriteLayout} {
				dir := t.TempDir()
				path := filepath.Join(dir, "old")
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(path, "old"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				before := tree(t, dir)
				err := write(c.ctx, path)
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if after := tree(t, dir); fmt.Sprint(before) != fmt.Sprint(after) {
					t.Errorf("there was %v, and now is %v", before, after)
				}
			}
		})
	}
}

// TestPacking_CancelledMidway: what packs a disk ends soon after its context, and
// so do all who work for it.
func TestPacking_CancelledMidway(t *testing.T) {
	disk, err := os.Open(makeDisk(t, 64<<20, true, part{random: 8 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	wanted := errors.New("the user's interrupt")
	var chunks []*chunk
	for start := int64(0); start < 64<<20; start += testChunk {
		chunks = append(chunks, &chunk{extent: extent{start, start + testChunk}, data: []extent{{start, start + testChunk}}})
	}
	p := newPacking(disk, 2)
	err = p.run(ctx, chunks, func(c *chunk) string {
		if c.start == 8*testChunk {
			cancel(wanted)
		}
		return filepath.Join(dir, fmt.Sprint(c.start))
	})
	if !errors.Is(err, wanted) {
		t.Errorf("error %v", err)
	}
}

// TestPacking_FullDisk: a file that takes no more is named, and ends the rest.
func TestPacking_FullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	disk, err := os.Open(makeDisk(t, 8<<20, true, part{random: 8 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()

	p := newPacking(disk, 2)
	c := &chunk{extent: extent{0, 8 << 20}, data: []extent{{0, 8 << 20}}}
	ordered := make(chan *segment, cap(p.free))
	ctx, stop := context.WithCancelCause(t.Context())
	read := make(chan error)
	go func() {
		err := p.readChunk(ctx, c, ordered)
		close(ordered)
		close(p.jobs)
		read <- err
	}()
	go func() { _ = p.work() }()
	if err := p.writeChunk(c, full, ordered, stop); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("written: %v", err)
	}
	if err := <-read; !errors.Is(err, unix.ENOSPC) {
		t.Errorf("read: %v", err)
	}
	if len(p.free) != cap(p.free) {
		t.Errorf("%d of %d segments came back", len(p.free), cap(p.free))
	}
}

// TestCreateDirectory_Leftovers: what a killed write left goes, and nothing else.
func TestCreateDirectory_Leftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".x.tart123", ".x.tart0old", ".x.tart.oci5", "x.tart"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "blobs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d, err := createDirectory(filepath.Join(dir, "x.tart"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.cleanup()
	if err := d.finish(); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 || entries[0].Name() != ".x.tart.oci5" || entries[1].Name() != "x.tart" {
		t.Errorf("there are %v", entries)
	}
	if inside, _ := os.ReadDir(filepath.Join(dir, "x.tart")); len(inside) != 0 {
		t.Errorf("the old directory's %v stayed", inside)
	}
}
