package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/rockpool/rootvm/builders"
)

// distSpace is how much of [builders.BuildSpace] is for dist/, in bytes.
const distSpace = 2 * builders.GiB

// rebuildSpace is what a build wants in the cache that holds all it can, in
// bytes: it makes the disk anew.
const rebuildSpace = 3 * builders.GiB

// SpaceForBuild fails when a build would fill the file system of the cache
// directory or that of the checkout. What the cache holds need not be free again.
func SpaceForBuild(cacheDir, checkout string) error {
	want, cache := builders.BuildSpace, cacheDir
	for _, err := os.Stat(cacheDir); errors.Is(err, fs.ErrNotExist); _, err = os.Stat(cacheDir) {
		cacheDir = filepath.Dir(cacheDir) // it will be made there
	}
	together, err := sameFileSystem(cacheDir, checkout)
	if err != nil {
		return err
	}
	if !together {
		want -= distSpace
		if err := needSpace(checkout, distSpace, "move the checkout"); err != nil {
			return err
		}
	}

	const hint = "set ROCKPOOL_CACHE to a directory elsewhere"
	if needSpace(cacheDir, want, hint) == nil {
		return nil
	}
	return needSpace(cacheDir, max(want-held(cache), rebuildSpace), hint)
}

func sameFileSystem(a, b string) (bool, error) {
	var devices []uint64
	for _, path := range []string{a, b} {
		info, err := os.Stat(path)
		if err != nil {
			return false, fmt.Errorf("look for free space: %w", err)
		}
		devices = append(devices, uint64(info.Sys().(*syscall.Stat_t).Dev))
	}
	return devices[0] == devices[1], nil
}

// held is how many bytes the files below dir take. Those that cannot be looked
// at, of the user's subordinate ids, do not count.
func held(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return bytes
}

// needSpace fails when the file system of dir has fewer free bytes than want.
// hint says what the user can do besides freeing some.
func needSpace(dir string, want int64, hint string) error {
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
