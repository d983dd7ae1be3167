package guest_test

import (
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestPorts_SetWeb: the guest's own web ports are a run, and so are those that
// are set by their first.
func TestPorts_SetWeb(t *testing.T) {
	var own, set guest.Ports
	own.FillDefaults()
	set.SSH = own.SSH
	set.SetWeb(guest.PortDashboard)
	if set != own {
		t.Errorf("set by the first: %v, want %v", set, own)
	}

	web := 0
	for _, f := range set.Forwards() {
		if f.Name != "ssh" {
			web++
		}
		if last := guest.PortDashboard + guest.FollowingWebPorts; f.Name != "ssh" && f.Host > last {
			t.Errorf("%s has %d, the last is %d", f.Name, f.Host, last)
		}
	}
	if web != 1+guest.FollowingWebPorts {
		t.Errorf("%d web ports", web)
	}
}
