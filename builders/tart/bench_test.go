package tart

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart/tartcheck"
)

// The disk of the benchmarks: of 20 GiB, 2 GiB are data, which is in front, and a
// block of metadata at the start of every 2 GiB, as ext4 has it. Short ones have
// a tenth.
const (
	benchSize = 20 * builders.GiB
	benchData = 2 * builders.GiB
)

func benchScale() int64 {
	if testing.Short() {
		return 10
	}
	return 1
}

// corpus is what Go's own installation has: programs, sources, documents.
func corpus(b *testing.B) []byte {
	b.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	var all bytes.Buffer
	err = filepath.WalkDir(strings.TrimSpace(string(root)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || all.Len() > 192<<20 {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = all.ReadFrom(f)
		all.Write(make([]byte, -all.Len()&4095)) // a file system's blocks
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return all.Bytes()
}

func benchDisk(b *testing.B, content []byte) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "disk.raw")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	size := benchSize / benchScale()
	for at := int64(0); at < benchData/benchScale(); at += int64(len(content)) {
		if _, err := f.WriteAt(content[:min(int64(len(content)), benchData/benchScale()-at)], at); err != nil {
			b.Fatal(err)
		}
	}
	for at := benchData / benchScale(); at < size; at += size / 10 {
		if _, err := f.WriteAt(content[:4096], at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	return file
}

// cpuSeconds is what the process has used of processors.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peakMemory returns the most that the process had in memory since the peak was
// forgotten, in MB, or 0 where the kernel does not say.
func peakMemory() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes float64
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes * 1024 / 1e6
}

func forgetPeakMemory() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// BenchmarkImage tells for a directory, an artifact and the check of it the time
// and the peak of memory, and for the artifact the share of what the same
// compressor alone would make of the disk: of its data by the clock and by the
// processors' time, which other programs disturb less, and of the whole disk,
// zeros included, by the processors' time.
func BenchmarkImage(b *testing.B) {
	content := corpus(b)
	disk := benchDisk(b, content)
	data, holes := float64(benchData/benchScale()), float64((benchSize-benchData)/benchScale())

	dataRate := benchCompressor(b, "compressor/data", content)
	holeRate := benchCompressor(b, "compressor/zeros", make([]byte, len(content)))
	content = nil

	image := New(spec(), disk)
	directory, layout := filepath.Join(b.TempDir(), "root.tart"), filepath.Join(b.TempDir(), "root.tart.oci")
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"directory", func(ctx context.Context) error { return image.WriteDirectory(ctx, directory) }},
		{"artifact", func(ctx context.Context) error { return image.WriteLayout(ctx, layout) }},
		{"check", func(ctx context.Context) error { return tartcheck.Layout(ctx, layout, disk) }},
	} {
		b.Run(step.name, func(b *testing.B) {
			forgetPeakMemory()
			before := cpuSeconds(b)
			for b.Loop() {
				if err := step.run(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
			b.ReportMetric(peakMemory(), "MB-peak")
			if cpu := (cpuSeconds(b) - before) / float64(b.N); step.name == "artifact" && dataRate.cpu > 0 && holeRate.cpu > 0 {
				b.ReportMetric(100*data/dataRate.clock/(b.Elapsed().Seconds()/float64(b.N)), "%data-clock")
				b.ReportMetric(100*data/dataRate.cpu/cpu, "%data-cpu")
				b.ReportMetric(100*(data/dataRate.cpu+holes/holeRate.cpu)/cpu, "%disk-cpu")
			}
		})
	}
}

// rate is what a compressor takes, in bytes a second.
type rate struct{ clock, cpu float64 }

func benchCompressor(b *testing.B, name string, content []byte) (found rate) {
	b.Run(name, func(b *testing.B) {
		before := cpuSeconds(b)
		packed := 0
		for b.Loop() {
			packed = packAll(b, content)
		}
		total := float64(len(content)) * float64(b.N)
		found = rate{total / b.Elapsed().Seconds(), total / (cpuSeconds(b) - before)}
		b.ReportMetric(found.clock/1e6, "MB/s")
		b.ReportMetric(100*float64(packed)/float64(len(content)), "%packed")
	})
	return found
}

// packAll compresses content in blocks on all processors and returns how much it
// became.
func packAll(b *testing.B, content []byte) int {
	workers := runtime.GOMAXPROCS(0)
	sizes := make([]int, workers)
	var group errgroup.Group
	for w := range workers {
		group.Go(func() error {
			var c lz4.CompressorCCompat
			room := make([]byte, lz4.CompressBlockBound(blockSize))
			for at := w * blockSize; at < len(content); at += workers * blockSize {
				n, err := c.CompressBlock(content[at:min(at+blockSize, len(content))], room)
				if err != nil {
					return err
				}
				sizes[w] += n
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	total := 0
	for _, n := range sizes {
		total += n
	}
	return total
}
