package replay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkShare_Save is the time from the end of a save on the host to
// IN_MODIFY in the guest, in one process over FUSE, among 10 000 files.
func BenchmarkShare_Save(b *testing.B) {
	s := mountShare(b)
	for i := range 10000 {
		dir := filepath.Join(s.host, fmt.Sprint("d", i%100))
		do(b, os.MkdirAll(dir, 0o755))
		write(b, "x", dir, fmt.Sprint("f", i))
	}
	r := listen(b, filepath.Join(s.guest, "d1"))
	join(b, s, nil)
	var times []time.Duration
	n := 0
	for b.Loop() {
		name := fmt.Sprint("f", 1+100*(n%100)) // each rests two seconds before it is saved again
		n++
		write(b, fmt.Sprint("after ", n), s.host, "d1", name)
		start := time.Now()
		r.saw(b, name, unix.IN_MODIFY)
		times = append(times, time.Since(start))
		r.forget()
		time.Sleep(30 * time.Millisecond)
	}
	slices.Sort(times)
	at := func(p int) float64 { return float64(times[(len(times)-1)*p/100].Microseconds()) / 1000 }
	b.ReportMetric(at(50), "ms-p50")
	b.ReportMetric(at(95), "ms-p95")
}
