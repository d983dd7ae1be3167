package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// BenchmarkWatcher_Idle reports what a watched directory of 100 000 files in
// 5000 directories costs: to look at once, in memory, and in processor time for
// each second in which nothing happens; by inotify, and by looking again and
// again.
func BenchmarkWatcher_Idle(b *testing.B) {
	dir := b.TempDir()
	for d := range 5000 {
		sub := filepath.Join(dir, fmt.Sprint("package", d%100), "src", fmt.Sprint("component", d))
		must(b, os.MkdirAll(sub, 0o755))
		for f := range 20 {
			must(b, os.WriteFile(filepath.Join(sub, fmt.Sprint("some-file-", f, ".ts")), nil, 0o644))
		}
	}
	for name, poll := range map[string]bool{"source": false, "polled": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				start := time.Now()
				f := follow(b, dir, func(o *Options) { o.Poll = poll })
				b.ReportMetric(time.Since(start).Seconds(), "s/first-look")
				time.Sleep(500 * time.Millisecond)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")

				used := processorTime(b)
				const idle = 20 * time.Second
				time.Sleep(idle)
				b.ReportMetric((processorTime(b)-used).Seconds()/idle.Seconds()*1000, "cpu-ms/s")
				if r := f.Report(); r.Files != 100000 {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWatcher_Burst is the time from the first of 10 000 new files to the
// last one told.
func BenchmarkWatcher_Burst(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		from, to := b.TempDir(), b.TempDir()
		for i := range 10000 {
			p := filepath.Join(from, "tree", fmt.Sprint("d", i%97), fmt.Sprint("f", i))
			must(b, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o644))
		}
		f := follow(b, to, nil)
		b.StartTimer()
		must(b, os.CopyFS(filepath.Join(to, "tree"), os.DirFS(filepath.Join(from, "tree"))))
		b.ReportMetric(b.Elapsed().Seconds(), "s/copy")
		f.await(b, "all", func() bool { return f.Report().Sent >= 10000+98 && f.Report().Waiting == 0 })
	}
}

// BenchmarkStream_Full is one batch out of a set that is full.
func BenchmarkStream_Full(b *testing.B) {
	s := newStream(time.Now, func(time.Time) {})
	s.Connect()
	s.take()
	s.Answer(guest.FileAnswer{Epoch: s.epoch, Greeting: true})
	for b.Loop() {
		for i := 0; s.add(modified(fmt.Sprint("some/where/file", i)), false); i++ {
		}
		s.next = time.Time{}
		if batch, _ := s.take(); batch != nil {
			s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: batch.Seq})
		}
	}
}
