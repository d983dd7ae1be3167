package guest_test

import (
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestPorts_SetWeb: the guest's own web ports are a run, and SetWeb sets all of
// it, and nothing else.
func TestPorts_SetWeb(t *testing.T) {
	var own, moved guest.Ports
	own.FillDefaults()
	moved.FillDefaults()
	moved.SetWeb(guest.PortDashboard + 100)

	web := 0
	for i, f := range own.Forwards() {
		want := f.Host
		if offset := f.Guest - guest.PortDashboard; 0 <= offset && offset <= guest.FollowingWebPorts {
			web++
			want += 100
		}
		if got := moved.Forwards()[i]; got.Name != f.Name || got.Host != want {
			t.Errorf("%s has %d, want %d", got.Name, got.Host, want)
		}
	}
	if web != 1+guest.FollowingWebPorts {
		t.Errorf("%d web ports, want the dashboard's and the %d that follow", web, guest.FollowingWebPorts)
	}
}
