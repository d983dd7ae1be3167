package storage

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// homeOwner owns the home directory of an image that has none: the first person
// of a system, by custom.
const homeOwner = 1000

// fillHome makes a new home directory in dir, which is empty: that of the image,
// which may not be trusted to have no links on the way to it.
func fillHome(ctx context.Context, dir, image string) error {
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := os.Open(image)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.Trim(agent.Home, "/"), "/") {
		next, openErr := openDir(from, name)
		_ = from.Close()
		if errors.Is(openErr, unix.ENOENT) || errors.Is(openErr, unix.ENOTDIR) || errors.Is(openErr, unix.ELOOP) {
			return os.Chown(dir, homeOwner, homeOwner)
		}
		if openErr != nil {
			return openErr
		}
		from = next
	}
	defer from.Close()
	return newCopier(to).copyTree(ctx, from, to)
}

// copyRoot gives the directory of an own layer the attributes of the image's root,
// which it stands for.
func copyRoot(dir, image string) error {
	from, err := os.Open(image)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	a, err := readAttributes(from, ".")
	if err != nil {
		return err
	}
	return a.apply(to, ".")
}
