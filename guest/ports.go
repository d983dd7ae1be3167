package guest

import (
	"fmt"
	"slices"
	"strings"
)

// Ports that the guest serves, in the guest. The first three are origins of
// their own, so that an IDE or a preview can do nothing to the dashboard.
const (
	PortDashboard = 8080 // the dashboard and its API
	PortIDE       = 8081 // the workspaces' IDEs
	PortPreview   = 8082 // previews of what runs in workspaces
	PortSSH       = 22
	PortQueue     = 9324 // the SQS-compatible queue, on the guest's loopback only
)

// Ports are the ports on the host's loopback that lead to the guest's services.
// Zero leaves one out.
type Ports struct {
	SSH       int `json:"ssh"`
	Dashboard int `json:"dashboard"`
	IDE       int `json:"ide"`
	Preview   int `json:"preview"`
}

// FillDefaults sets what was left empty: the guest's own numbers, but for SSH,
// whose number on the host is the host's own server's.
func (p *Ports) FillDefaults() {
	setDefault(&p.SSH, 2222)
	setDefault(&p.Dashboard, PortDashboard)
	setDefault(&p.IDE, PortIDE)
	setDefault(&p.Preview, PortPreview)
}

// FollowingWebPorts is how many web ports follow the dashboard's.
const FollowingWebPorts = 2

// SetWeb sets the web ports, which follow one another on the host as in the
// guest, by the first of them, the dashboard's.
func (p *Ports) SetWeb(first int) {
	p.Dashboard, p.IDE, p.Preview = first, first+1, first+2
}

// Forward is one port of the host that leads to one of the guest.
type Forward struct {
	Name  string `json:"name"`
	Host  int    `json:"host"`  // on 127.0.0.1
	Guest int    `json:"guest"` // in the guest
}

// Forwards lists the ports that are not left out, in a fixed order.
func (p Ports) Forwards() []Forward {
	all := []Forward{
		{"ssh", p.SSH, PortSSH},
		{"dashboard", p.Dashboard, PortDashboard},
		{"ide", p.IDE, PortIDE},
		{"preview", p.Preview, PortPreview},
	}
	return slices.DeleteFunc(all, func(f Forward) bool { return f.Host == 0 })
}

// String lists the ports as host→guest.
func (p Ports) String() string { return ForwardList(p.Forwards()) }

// ForwardList lists forwards as host→guest.
func ForwardList(forwards []Forward) string {
	var list []string
	for _, f := range forwards {
		list = append(list, fmt.Sprintf("%s 127.0.0.1:%d→%d", f.Name, f.Host, f.Guest))
	}
	return strings.Join(list, ", ")
}
