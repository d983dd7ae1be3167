package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// DialUnix connects to the socket called name in dir. The kernel limits a
// socket's path to 107 bytes, so the directory is reached through a descriptor.
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

// listenUnix listens on the socket called name in dir, in place of a dead
// listener's.
func listenUnix(dir, name string) (*net.UnixListener, error) {
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
	l.SetUnlinkOnClose(false) // the path is of a descriptor that is closed by then
	return l, nil
}

func socketPath(dir, name string) (path string, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("open socket %s: %w", name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}
