package guest

import (
	"errors"
	"fmt"
	"regexp"
)

// DiskReport is who takes what of the guest's disk that workspaces share, bytes.
type DiskReport struct {
	Size       int64           `json:"size"`
	Free       int64           `json:"free"`
	Images     int64           `json:"images"` // all images that workspaces are made from
	Rest       int64           `json:"rest"`   // of the file system's own, and of what is counted nowhere else
	Workspaces []WorkspaceDisk `json:"workspaces"`
}

// WorkspaceDisk is what the files of one workspace take, and may take, bytes.
type WorkspaceDisk struct {
	Name  string `json:"name"`
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"`
}

// maxReported is how many workspaces a report may name: more than there can be,
// and fewer than fill a line of the channel.
const maxReported = 300

// reportedName is what a workspace's name looks like.
var reportedName = regexp.MustCompile(`^[a-z0-9-]{3,63}$`)

// Validate returns why a report is none that a host can keep.
func (r DiskReport) Validate() error {
	if len(r.Workspaces) > maxReported {
		return fmt.Errorf("a report of the disk names %d workspaces", len(r.Workspaces))
	}
	figures := []int64{r.Size, r.Free, r.Images, r.Rest}
	for _, w := range r.Workspaces {
		if !reportedName.MatchString(w.Name) {
			return fmt.Errorf("a report of the disk names %.80q", w.Name)
		}
		figures = append(figures, w.Used, w.Limit)
	}
	for _, n := range figures {
		if n < 0 {
			return errors.New("a report of the disk has less than nothing")
		}
	}
	return nil
}
