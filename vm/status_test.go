package vm

import (
	"fmt"
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
	on.Disk = &guest.DiskReport{Size: 40 * GiB, Free: 10 * GiB, Images: GiB, Rest: 2 * GiB}
	for i := range 12 {
		on.Disk.Workspaces = append(on.Disk.Workspaces, guest.WorkspaceDisk{Name: fmt.Sprintf("ws-%d", i), Used: int64(i) * GiB, Limit: 12 * GiB})
	}
	got = on.Table(start)
	for _, want := range []string{"30.0 GiB of 40.0 GiB used; workspaces 66.0 GiB, images 1.0 GiB, the rest 2.0 GiB", "ws-11: 11.0 GiB of 12.0 GiB", "and 2 more: --json has all"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "ws-1:") {
		t.Errorf("those that take the least are named:\n%s", got)
	}

	off := State{Name: "one", Status: Failed, Failure: &Failure{Time: start, Unit: "u.service", Message: "m", Log: []string{"last words"}}}
	if got := off.Table(start); !strings.Contains(got, "u.service: m") || !strings.Contains(got, "last words") || strings.Contains(got, "share") {
		t.Errorf("off:\n%s", got)
	}
}
