package vm

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

func TestState_Table(t *testing.T) {
	self, err := Identify("qemu", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	on := State{
		Name: "one", Status: Ready, Processes: []Process{self}, StartedAt: start, Accel: AccelTCG, Share: Share9P, Boot: BootKernel,
		Memory: 8 * GiB, CPUs: 4, Ports: guest.Ports{SSH: 2222, Dashboard: 8080}, ImageSHA256: strings.Repeat("ab", 32),
		Phases: []Phase{{"kernel", 1.5}, {"ssh", 9.26}}, ReadyAfter: 21.34,
		Troubles: []Trouble{{"share", start, "virtiofsd ended", "restart"}},
	}
	got := on.Table(start.Add(90 * time.Second))
	for _, want := range []string{"ready after 21.3 s, on for 1m30s", "4 cpus, 8G, tcg, boot by kernel", "9p", "none by 9p", "ssh 127.0.0.1:2222→22, dashboard 127.0.0.1:8080→8080",
		"abababababab", "kernel 1.5 · ssh 9.3 s", "share: virtiofsd ended; cure: restart"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	off := State{Name: "one", Status: Failed, Failure: &Failure{Time: start, Unit: "u.service", Message: "m", Log: []string{"last words"}}}
	if got := off.Table(start); !strings.Contains(got, "u.service: m") || !strings.Contains(got, "last words") || strings.Contains(got, "share") {
		t.Errorf("off:\n%s", got)
	}
}
