package setup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// replace writes a file in one step: whoever looks sees the old content or
// the new, and after a power cut it is one of the two. Links at the name are
// replaced, not followed.
func (s *Setup) replace(path string, content []byte, mode os.FileMode, uid, gid int) error {
	full := s.path(path)
	tmp := fmt.Sprintf("%s.%s~", full, rand.Text()[:8])
	err := writeNew(tmp, content, mode)
	if err == nil {
		err = s.Kernel.Chown(tmp, uid, gid)
	}
	if err == nil {
		err = os.Rename(tmp, full)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(full))
}

// replaceIfChanged spares the disk a write when the content is there.
func (s *Setup) replaceIfChanged(path string, content []byte, mode os.FileMode, uid, gid int) error {
	old, err := readRegular(s.path(path), int64(len(content))+1)
	if err == nil && bytes.Equal(old, content) {
		return nil
	}
	return s.replace(path, content, mode, uid, gid)
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readRegular reads at most limit bytes of a file in a directory that its
// owner, who is not root, may have filled with anything.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// ensureDir makes a directory with an owner and a mode; parents exist.
func (s *Setup) ensureDir(path string, mode os.FileMode, uid, gid int) error {
	full := s.path(path)
	if err := os.Mkdir(full, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make %s: %w", path, err)
	}
	st, err := os.Lstat(full)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory: move it away", path)
	}
	if st.Mode().Perm() != mode {
		if err := os.Chmod(full, mode); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) == uid && int(sys.Gid) == gid {
		return nil
	}
	if err := s.Kernel.Chown(full, uid, gid); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}
