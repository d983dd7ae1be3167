package bootstrap

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
)

// FreeSpace is how many bytes an ordinary user may still write to the file
// system of dir.
func FreeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// NeedSpace fails when the file system of dir has fewer free bytes than want.
// hint says what the user can do besides freeing some.
func NeedSpace(dir string, want int64, hint string) error {
	free, err := FreeSpace(dir)
	if err != nil {
		return err
	}
	if free < want {
		return fmt.Errorf("%s has %.1f GiB free and the build needs %.1f GiB there: free some, or %s",
			dir, float64(free)/float64(builders.GiB), float64(want)/float64(builders.GiB), hint)
	}
	return nil
}
