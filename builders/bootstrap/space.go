package bootstrap

import (
	"fmt"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/rockpool/rootvm/builders"
)

// NeedSpace fails when the file system of dir has fewer free bytes than want.
// hint says what the user can do besides freeing some.
func NeedSpace(dir string, want int64, hint string) error {
	usage, err := disk.Usage(dir)
	if err != nil {
		return fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	if free := int64(usage.Free); free < want {
		return fmt.Errorf("%s has %.1f GiB free and the build needs %.1f GiB there: free some, or %s",
			dir, float64(free)/float64(builders.GiB), float64(want)/float64(builders.GiB), hint)
	}
	return nil
}
