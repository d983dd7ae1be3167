//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

// The figures of doc/benchmarks.md:
//
//	E2E_FLAGS="-run=XXX -bench=. -benchtime=1x" go tool mage e2e
//
// Each prints where the time goes.

// BenchmarkBuild_Cold builds without the root file system and the layers, with
// downloads and compiled programs at hand.
func BenchmarkBuild_Cold(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		cache := b.TempDir()
		shareCache(b, cache)
		i := builds.with("FORCE=1", "ROCKPOOL_CACHE="+cache)
		b.StartTimer()
		i.mage(b, "rootvm:build")
	}
	reportSteps(b)
}

// BenchmarkBuild_LastStepChanged rebuilds after a change in the last
// provisioning step, in a clone.
func BenchmarkBuild_LastStepChanged(b *testing.B) {
	clone := filepath.Join(b.TempDir(), "clone")
	command(b, "", "git", "clone", "--quiet", checkout, clone)
	seal := filepath.Join(clone, "provision", "steps", "90-seal.sh")
	defer func(dir string) { checkout = dir }(checkout)
	checkout = clone
	builds.mage(b, "rootvm:build")
	for b.Loop() {
		script, err := os.ReadFile(seal)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(seal, append(script, "# changed\n"...), 0o755); err != nil {
			b.Fatal(err)
		}
		builds.mage(b, "rootvm:build")
	}
	reportSteps(b)
}

// BenchmarkBoot starts and stops an instance by direct kernel boot.
func BenchmarkBoot(b *testing.B) {
	i := &instance{name: "rockpool-bench", ssh: 9422, web: 9480}
	i.mage(b, "vm:start") // formats the data disk
	i.mage(b, "vm:stop")
	var ready, stop float64
	for b.Loop() {
		i.mage(b, "vm:start")
		state := i.status(b)
		ready += state.ReadyAfter
		for _, p := range state.Phases {
			b.Logf("%6.1f s  %s", p.Seconds, p.Name)
		}
		before := b.Elapsed()
		i.mage(b, "vm:stop")
		stop += (b.Elapsed() - before).Seconds()
	}
	i.mage(b, "vm:destroy", "--yes")
	b.ReportMetric(ready/float64(b.N), "s-to-health/op")
	b.ReportMetric(stop/float64(b.N), "s-to-stop/op")
}

func reportSteps(b *testing.B) {
	m, err := builders.ReadManifest(filepath.Join(checkout, "dist", "rockpool-root-trixie-amd64.manifest.json"))
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range m.Steps {
		b.Logf("%7.2f s  %s", s.Seconds, s.Name)
	}
}

func command(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out.String())
	}
}
