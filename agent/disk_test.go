package agent_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

func TestFillOf(t *testing.T) {
	for _, tt := range []struct {
		used, limit int64
		want        agent.DiskFill
	}{
		{0, 0, agent.DiskRoomy}, // no limit
		{5, 0, agent.DiskRoomy},
		{0, 10e9, agent.DiskRoomy},
		{7999999999, 10e9, agent.DiskRoomy},
		{8e9, 10e9, agent.DiskTight},
		{9.9e9, 10e9, agent.DiskTight},
		{10e9 - 1<<20, 10e9, agent.DiskFull},
		{10e9, 10e9, agent.DiskFull},
		{10e9 + 1, 10e9, agent.DiskOver},
		{1 << 62, 1<<62 + 1<<60, agent.DiskTight},
	} {
		if got := agent.FillOf(tt.used, tt.limit); got != tt.want {
			t.Errorf("%d of %d: %d, want %d", tt.used, tt.limit, got, tt.want)
		}
	}
}

// TestCapacity_Defaults_disk: whatever the disk's size, the default is no more
// than 20 GB and than the disk, no less than the least where there is so much,
// and may be set.
func TestCapacity_Defaults_disk(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		c := agent.Capacity{Disk: 1 + random.Int64N(200e9)}
		got := c.Defaults().Disk
		if got > agent.DefaultDisk || got > c.Disk || got < min(agent.MinDisk, c.Disk) {
			t.Fatalf("a disk of %d: %d", c.Disk, got)
		}
		if want := c.Disk / 4; want >= agent.MinDisk && want <= agent.DefaultDisk && got != want {
			t.Fatalf("a disk of %d: %d, want a quarter", c.Disk, got)
		}
		if err := c.Validate(agent.Limits{Disk: got}); err != nil && c.Disk >= agent.MinDisk {
			t.Fatalf("a disk of %d: %d may not be set: %v", c.Disk, got, err)
		}
	}
}

// TestLimitState_DiskWarning: what the files take wants to be known from 80 % on,
// and what a quota below it means.
func TestLimitState_DiskWarning(t *testing.T) {
	state := agent.Capacity{Disk: 40 << 30}.State(agent.Limits{Disk: 10 << 30})
	if state.DiskWarning() != "" || state.DiskFill() != agent.DiskRoomy {
		t.Error("a warning of what is not known")
	}
	for used, want := range map[int64]string{
		7 << 30:  "",
		9 << 30:  "Its files take 90 % of the 10.0 GiB that they may",
		10 << 30: "Its files take all of the 10.0 GiB that they may",
		11 << 30: "Its files take 11.0 GiB, more than the 10.0 GiB that they may: nothing can be written until enough of them are deleted, or more is allowed.",
	} {
		state.DiskUsed = &used
		if got := state.DiskWarning(); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%d: %q, want %q", used, got, want)
		}
	}
}

func TestDiskState(t *testing.T) {
	d := agent.DiskState{
		Size: 100, Free: 10,
		Workspaces: []agent.DiskShare{{Used: 3}, {Used: 4}}, Orphans: []agent.DiskShare{{Used: 5}}, Images: []agent.ImageUsage{{Size: 6}, {Size: 7}},
	}
	if d.FilesSize() != 12 || d.ImagesSize() != 13 || d.Fill() != agent.DiskFull {
		t.Errorf("files %d, images %d, fill %d", d.FilesSize(), d.ImagesSize(), d.Fill())
	}
}
