//go:build e2e

package e2e

import (
	_ "embed"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/home.sh
var homeScript string

//go:embed testdata/echo.js
var homeServer string

//go:embed testdata/probe.sh
var probeScript string

// homePort is where the home behind the test interface answers.
const homePort = 7777

// probe is one try of a workspace's to reach something.
type probe struct {
	name    string
	kind    string // tcp, udp or icmp
	address string
	port    int
	allowed bool // with the filter on
}

func (p probe) String() string { return fmt.Sprintf("%s %s %d", p.kind, p.address, p.port) }

// homeHosts are what stands in the home, by address and network. The internet is
// not one of the networks for documentation, since a test's host may be in one of
// those, and tells it to the VM.
var homeHosts = []struct {
	name, prefix string
	allowed      bool
}{
	{"the host's public IPv4 address", "203.0.113.7/24", false},
	{"a neighbour in the host's public IPv4 network", "203.0.113.8/24", false},
	{"a network that the host is in since", "198.51.100.7/24", false},
	{"a device at home, 192.168", "192.168.77.7/24", false},
	{"a device at home, 10", "10.77.0.7/24", false},
	{"a device at home, 172.16", "172.16.77.7/24", false},
	{"a device at home, 172.31", "172.31.77.7/24", false},
	{"the provider's inner network", "100.64.77.7/24", false},
	{"link-local IPv4", "169.254.77.7/24", false},
	{"a cloud's metadata", "169.254.169.254/24", false},
	{"protocol assignments", "192.0.0.77/24", false},
	{"the host's global IPv6 address", "2001:db8:77::7/64", false},
	{"a device's global IPv6 address", "2001:db8:77::8/64", false},
	{"a global IPv6 network that the host is in since", "2001:db8:78::7/64", false},
	{"a device's unique local address", "fd77::7/64", false},
	{"site-local IPv6", "fec0:77::7/64", false},
	{"6to4", "2002:77::7/64", false},
	{"IPv4 by NAT64", "64:ff9b:0:77::7/64", false},
	{"the internet, IPv4", "192.88.99.7/24", true},
	{"the internet, IPv6", "2001:db8:42::7/64", true},
	{"the internet of a router that answers every name", "198.18.77.7/24", true},
}

// hostNetworks are those of homeHosts that the launcher tells of.
const hostNetworks = "203.0.113.0/24\n198.51.100.0/24\n2001:db8:77::/64\n2001:db8:78::/64\n\n"

// homeProbes are tries of each kind for everything in the home.
func homeProbes() []probe {
	var all []probe
	for _, h := range homeHosts {
		address := netip.MustParsePrefix(h.prefix).Addr().String()
		for _, kind := range []string{"tcp", "udp", "icmp"} {
			all = append(all, probe{h.name + ", " + kind, kind, address, homePort, h.allowed})
		}
	}
	return all
}

// homePrefixes are the addresses of the home's end and of the VM's, which end in
// 253 and in fffd.
func homePrefixes() (home, vm string) {
	var ours, theirs []string
	known := map[netip.Prefix]bool{}
	for _, h := range homeHosts {
		p := netip.MustParsePrefix(h.prefix)
		theirs = append(theirs, p.String())
		if known[p.Masked()] {
			continue
		}
		known[p.Masked()] = true
		b := p.Masked().Addr().AsSlice()
		if b[len(b)-1] = 0xfd; len(b) == 16 {
			b[14] = 0xff
		}
		a, _ := netip.AddrFromSlice(b)
		ours = append(ours, netip.PrefixFrom(a, p.Bits()).String())
	}
	return strings.Join(theirs, " "), strings.Join(ours, " ")
}

// vmProbes are tries to reach the VM by addresses that the workspace does not
// share with it, and the host's loopback interface, which the hypervisor shows.
func (i *instance) vmProbes() []probe {
	var all []probe
	for _, port := range []int{22, 8080, 8081, 8082} {
		all = append(all,
			probe{"the VM by a public IPv4 address, port " + strconv.Itoa(port), "tcp", "192.88.99.253", port, false},
			probe{"the VM by a global IPv6 address, port " + strconv.Itoa(port), "tcp", "2001:db8:42::fffd", port, false},
			probe{"the VM by an address at home, port " + strconv.Itoa(port), "tcp", "192.168.77.253", port, false})
	}
	for n, name := range []string{"dashboard", "IDEs", "previews"} {
		all = append(all, probe{"the host's loopback interface, " + name, "tcp", hostInGuest, i.web + n, false})
	}
	return append(all, probe{"the host's loopback interface, SSH of the VM", "tcp", hostInGuest, i.ssh, false})
}

// reached tells for each probe whether a workspace got an answer.
func (i *instance) reached(t *testing.T, w remote, probes []probe) map[string]bool {
	t.Helper()
	var list strings.Builder
	for _, p := range probes {
		fmt.Fprintln(&list, p)
	}
	out := i.inside(t, w, "cat >/tmp/probe.sh <<'PROBE'\n"+probeScript+"PROBE\nbash /tmp/probe.sh <<'LIST'\n"+list.String()+"LIST")
	open := map[string]bool{}
	for line := range strings.Lines(out) {
		state, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		open[what] = state == "open"
	}
	if len(open) != len(probes) {
		t.Fatalf("%d answers to %d probes:\n%s", len(open), len(probes), out)
	}
	return open
}

// homeIsolationTest puts a home behind a test interface of the VM and has a
// workspace, which it starts anew, try to reach it. What the filter refuses is
// reached without it, or the test proves nothing.
func homeIsolationTest(t *testing.T, i *instance, w remote) {
	// A workspace has IPv6 when the VM has a global address as it starts. QEMU's
	// network gives the VM a site-local one only.
	const global = "2001:db8:99::2/64 dev $(ip -o -6 route show default | grep -o 'dev [^ ]*' | cut -d' ' -f2)"
	i.sh(t, "sudo ip -6 addr add "+global+" nodad")
	defer i.sh(t, "sudo ip -6 addr del "+global)
	i.stop(t, w)
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
	w = i.reach(t, w.ID, "running")

	home, ours := homePrefixes()
	run := func(args string) string { return "sudo bash -s " + args + " <<'HOME'\n" + homeScript + "HOME" }
	i.sh(t, "cat >/tmp/echo.js <<'ECHO'\n"+homeServer+"ECHO\n"+run("down")+"\n"+run(fmt.Sprintf("up '%s' '%s' /tmp/echo.js", home, ours)))
	defer func() {
		i.sh(t, run("down")+"\nprintf '\\n' | sudo rockpool-agent networks\nsudo systemctl reload rockpool-firewall")
	}()
	if got := i.sh(t, "printf '"+strings.ReplaceAll(hostNetworks, "\n", `\n`)+"' | sudo rockpool-agent networks"); got != "ok" {
		t.Fatalf("the host's networks: %s", got)
	}

	probes := append(homeProbes(), i.vmProbes()...)
	with := i.reached(t, w, probes)
	i.sh(t, "sudo nft delete table inet rockpool_workspaces")
	without := i.reached(t, w, probes)
	i.sh(t, "sudo systemctl reload rockpool-firewall")
	again := i.reached(t, w, probes) // the reload has the host's networks still

	refused := 0
	for _, p := range probes {
		words := map[bool]string{true: "reached", false: "refused"}
		t.Logf("%-75s %s with the filter, %s without, %s after a reload", p.name, words[with[p.String()]], words[without[p.String()]], words[again[p.String()]])
		if !without[p.String()] {
			t.Errorf("%s (%s): not reached without the filter either, so it proves nothing", p.name, p)
		}
		if with[p.String()] != p.allowed || again[p.String()] != p.allowed {
			t.Errorf("%s (%s): %s, and %s after a reload", p.name, p, words[with[p.String()]], words[again[p.String()]])
		}
		if !p.allowed {
			refused++
		}
	}
	if refused < 40 {
		t.Errorf("%d probes, want at least 40", refused)
	}
}
