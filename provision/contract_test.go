package provision_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// TestContract_Scripts compares the names that a script or a plain file has to
// write out with those of package guest.
func TestContract_Scripts(t *testing.T) {
	for file, lines := range map[string][]string{
		"steps/10-system.sh": {
			fmt.Sprintf("groupadd --gid %d %s\n", guest.ServiceID, guest.ServiceUser),
			fmt.Sprintf("useradd --uid %d --gid %[1]d ", guest.ServiceID),
			fmt.Sprintf("groupadd --gid %d %s\n", guest.AdminID, guest.AdminUser),
			fmt.Sprintf("useradd --uid %d --gid %[1]d ", guest.AdminID),
			" " + guest.ContainerDir + "\n",
		},
		"steps/50-rockpool.sh": {
			" " + guest.AgentProgram + "\n",
			" " + guest.StateDir + " ",
			fmt.Sprintf("%s %s\n", guest.ShareDir, guest.DataDir),
		},
		"files/system/etc/rockpool/rockpool.env": {fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d\n", guest.ServiceID)},
		"files/system/etc/hostname":              {guest.DefaultHostname + "\n"},
		"files/system/etc/hosts":                 {"127.0.1.1 " + guest.DefaultHostname + "\n"},
		"files/system/etc/motd":                  {" " + guest.ShareDir + " ", " " + guest.StateDir + " "},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, line := range lines {
			if !strings.Contains(string(b), line) {
				t.Errorf("%s does not hold %q", file, line)
			}
		}
	}
}
