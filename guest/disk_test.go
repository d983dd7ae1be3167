package guest

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestDiskReport_Validate: a host keeps no more, and nothing else, than a report
// is meant to have; the largest that is valid fits on a line of the channel.
func TestDiskReport_Validate(t *testing.T) {
	large := DiskReport{Size: 1 << 62, Free: 1 << 62, Images: 1 << 62, Rest: 1 << 62}
	for range maxReported {
		large.Workspaces = append(large.Workspaces, WorkspaceDisk{Name: strings.Repeat("a", 63), Used: 1 << 62, Limit: 1 << 62})
	}
	if err := large.Validate(); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal(Message{Event: EventDisk, Disk: &large})
	if err != nil || len(b) >= MaxLine {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for name, r := range map[string]DiskReport{
		"one more":      {Workspaces: append(large.Workspaces, WorkspaceDisk{Name: "abc"})},
		"terminal":      {Workspaces: []WorkspaceDisk{{Name: "a\x1b[2J"}}},
		"no name":       {Workspaces: []WorkspaceDisk{{}}},
		"negative":      {Free: -1},
		"negative used": {Workspaces: []WorkspaceDisk{{Name: "abc", Used: -1}}},
	} {
		if r.Validate() == nil {
			t.Errorf("%s is valid", name)
		}
	}
}
