package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// DialUnix connects to the socket called name in dir, however long dir is.
func DialUnix(ctx context.Context, dir, name string) (net.Conn, error) {
	path, done, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", filepath.Join(dir, name), err)
	}
	return conn, nil
}

// ListenUnix listens on the socket called name in dir, however long dir is, in
// place of a dead listener's.
func ListenUnix(dir, name string) (*net.UnixListener, error) {
	path, done, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, name), err)
	}
	l.SetUnlinkOnClose(false) // the path may be one that exists only in this function
	return l, nil
}

// maxSocketPath is the longest path of a socket that every system takes: macOS
// has 104 bytes for it, its end included, Linux 108.
const maxSocketPath = 103

// linkedSocketPath is a short path of the socket called name in dir: where the
// plain one is too long it leads through a symbolic link in a temporary
// directory, which done removes.
func linkedSocketPath(dir, name string) (path string, done func(), err error) {
	if path = filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, fmt.Errorf("open socket %s: %w", name, err)
	}

	for _, temporary := range []string{os.TempDir(), "/tmp"} {
		private, err := os.MkdirTemp(temporary, "rp") // for this user only: nobody else can change the link
		if err != nil {
			continue
		}
		link := filepath.Join(private, "d")
		done = func() { os.RemoveAll(private) }
		if path = filepath.Join(link, name); len(path) <= maxSocketPath && os.Symlink(dir, link) == nil {
			return path, done, nil
		}
		done()
	}
	return "", nil, fmt.Errorf("open socket %s: no link to %s can be made in %s", name, dir, os.TempDir())
}
