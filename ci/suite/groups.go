package suite

import (
	"fmt"
	"slices"
	"strings"
)

// Group is tests of minutes that run together, in at most 45 minutes on a
// machine with two cores and no KVM. Every test that takes long is in exactly
// one.
type Group struct {
	Name    string
	Purpose string
	Tests   []string
}

// GroupVariable names the group that [Suite.E2E] runs, and nothing else.
const GroupVariable = "E2E_GROUP"

// Groups lists the groups. doc/benchmarks.md has the same table, with times and
// with the commit at which each was last green.
func Groups() []Group {
	return []Group{
		{"host", "the host starts the VM and stops it; the image boots without anything of this repository", []string{"TestRockpool_Autostart", "TestBoot_PlainCommandLine"}},
		{"workspaces", "what the agent lives on is taken away; a power cut with four kinds of jobs under way", []string{"TestWorkspaces_Faults", "TestWorkspaces_PowerCutInJobs"}},
		{"contract", "Podman and Caddy of the VM are held to what the agent expects; an image of the user's own; the dashboard in a browser", []string{"TestRuntime_Contract", "TestCaddy", "TestWorkspaces_OwnImage", "TestWorkspaceImage_Loads", "TestBrowser"}},
		{"memory", "memory that is used up; many busy workspaces that stop at once", []string{"TestMemory", "TestDown_ManyBusy"}},
		{"builds", "both images again and after kills, byte for byte, and verified; a registry", []string{"TestBuild_Killed", "TestBuild_SameBytes", "TestBuild_Verify", "TestWorkspaceImage_Again", "TestWorkspaceImage_SameDigest", "TestWorkspaceImage_Registry"}},
		{"bookworm", "Debian 12 with its older Podman", []string{"TestBookworm"}},
		{"rounds-stub", "100 rounds: the agent alone is killed, on a stub in the place of Podman and without a VM, operations dense", []string{"TestRounds_Stub"}},
		{"rounds-host", "30 rounds: QEMU, the supervisor or virtiofsd is killed at random moments, operations under way", []string{"TestRounds_Host"}},
		{"rounds-guest", "40 rounds: the agent, Podman's service or a container's monitor is killed", []string{"TestRounds_Guest"}},
		{"rounds-mixed", "30 rounds: any of the six is killed", []string{"TestRounds_Mixed"}},
		{"rounds-world", "15 rounds: the network goes, the clock jumps, all memory is used", []string{"TestRounds_World"}},
	}
}

// groupFlags are the arguments of `go test` that run the group of a name, and
// none for "".
func groupFlags(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	var names []string
	for _, g := range Groups() {
		if g.Name == name {
			return []string{"-run=^(" + strings.Join(g.Tests, "|") + ")$"}, nil
		}
		names = append(names, g.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%s=%q is no group of the long tests: there are %s", GroupVariable, name, strings.Join(names, ", "))
}
