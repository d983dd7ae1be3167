package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

const (
	minDataSize   = 1 << 30
	dataErrorFile = "data.error"
	firstBlock    = 4096 // holds the superblock, whatever the block size

	// dataOptions has the host get the space of deleted files back at once.
	dataOptions = "errors=remount-ro,discard"
)

// errNoDataDisk: the state stays on the root disk.
var errNoDataDisk = errors.New("no data disk")

// mountData finds the data disk, formats it when it is blank, checks and
// mounts it, and lets it grow. When there is a disk that cannot be used, the
// daemon must not start on an empty database: the reason is left for it.
func (s *Setup) mountData(ctx context.Context) (string, error) {
	did, err := s.tryMountData(ctx)
	if err != nil {
		s.dataErr = err
		leave := s.replace(filepath.Join(guest.SetupRunDir, dataErrorFile), []byte(err.Error()+"\n"), 0o644, 0, 0)
		return "", errors.Join(err, leave)
	}
	return did, nil
}

func (s *Setup) tryMountData(ctx context.Context) (string, error) {
	mounts, err := s.mounts()
	if err != nil {
		return "", err
	}
	if m, ok := mounts[guest.DataDir]; ok {
		return "already mounted from " + m.source, nil
	}
	if err := os.MkdirAll(s.path(guest.DataDir), 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", guest.DataDir, err)
	}
	d, c, err := s.findData()
	if errors.Is(err, errNoDataDisk) {
		return "none: state is on the root disk", nil
	}
	if err != nil {
		return "", err
	}
	return s.useData(ctx, d, c)
}

// useData brings a chosen disk into service.
func (s *Setup) useData(ctx context.Context, d device, c diskContent) (string, error) {
	did := "mounted " + d.path
	if c.kind == kindBlank || c.kind == kindUnfinished {
		if err := s.format(ctx, d); err != nil {
			return "", fmt.Errorf("format %s: %w", d.path, err)
		}
		did = "formatted and " + did
		c = diskContent{kind: kindExt4}
		c.ext4.size = d.size
	}
	if c.ext4.size > d.size {
		return "", fmt.Errorf("%s is smaller (%d bytes) than its file system (%d bytes): give the disk its former size again", d.path, d.size, c.ext4.size)
	}
	if c.ext4.checkFor {
		if err := s.check(ctx, d); err != nil {
			return "", err
		}
		did = "checked and " + did
	}
	if err := s.Kernel.Mount(d.path, guest.DataDir, "ext4", unix.MS_NOATIME|unix.MS_NODEV, dataOptions); err != nil {
		return "", fmt.Errorf("mount %s: %w", d.path, err)
	}
	const oneGroup = 128 << 20 // less is not worth a program
	if d.size-c.ext4.size < oneGroup {
		return did, nil
	}
	if out, err := s.Commands.Run(ctx, "resize2fs", d.path); err != nil {
		return "", fmt.Errorf("grow the file system on %s: %w: %s", d.path, err, out)
	}
	return did + " and grew it", nil
}

// findData chooses the data disk: by file system label, then by the serial
// the launcher gives it, then the only blank disk there is.
func (s *Setup) findData() (device, diskContent, error) {
	all, err := s.devices()
	if err != nil {
		return device{}, diskContent{}, err
	}
	var labelled, serial, blank []device
	contents := map[string]diskContent{}
	for _, d := range all {
		if d.root || d.readOnly || d.drive || d.size == 0 {
			continue
		}
		c, err := s.examineDevice(d)
		if err != nil {
			s.Log.Info("disk is not readable", "disk", d.path, "err", err)
			c = diskContent{kind: "unreadable data"}
		}
		contents[d.name] = c
		switch {
		case c.kind == kindExt4 && c.label == guest.DataLabel:
			labelled = append(labelled, d)
		case d.disk && d.serial == guest.DataDiskSerial:
			serial = append(serial, d)
		case d.disk && d.size > minDataSize && (c.kind == kindBlank || c.kind == kindUnfinished):
			blank = append(blank, d)
		}
	}
	d, err := chooseData(labelled, serial, blank, contents)
	return d, contents[d.name], err
}

func chooseData(labelled, serial, blank []device, contents map[string]diskContent) (device, error) {
	switch {
	case len(labelled) == 1:
		return labelled[0], nil
	case len(labelled) > 1:
		return device{}, fmt.Errorf("%s all carry a file system labelled %s: attach only one of them", paths(labelled), guest.DataLabel)
	case len(serial) > 1:
		return device{}, fmt.Errorf("%s all have the serial %s: attach only one of them", paths(serial), guest.DataDiskSerial)
	case len(serial) == 1:
		d := serial[0]
		switch kind := contents[d.name].kind; kind {
		case kindBlank, kindUnfinished, kindExt4:
			return d, nil
		default:
			return device{}, fmt.Errorf("the data disk %s holds %s and was left alone: attach an empty disk, or one that Rockpool formatted", d.path, kind)
		}
	case len(blank) == 1:
		return blank[0], nil
	case len(blank) > 1:
		return device{}, fmt.Errorf("%s are all blank, so none was formatted: attach one, or label the right one with mkfs.ext4 -L %s", paths(blank), guest.DataLabel)
	}
	return device{}, errNoDataDisk
}

func paths(list []device) string {
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = d.path
	}
	return strings.Join(names, ", ")
}

// check repairs what can be repaired without a question.
func (s *Setup) check(ctx context.Context, d device) error {
	out, err := s.Commands.Run(ctx, "e2fsck", "-p", d.path)
	if err == nil {
		return nil
	}
	const corrected, reboot = 1, 2 // e2fsck(8), EXIT CODE
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 && e.ExitCode()&^(corrected|reboot) == 0 {
		return nil
	}
	return fmt.Errorf("the file system on %s needs a person: log in and run sudo e2fsck -f %s, then restart the VM (%w: %s)", d.path, d.path, err, out)
}

// format makes the file system so that a cut at any moment leaves either a
// disk that says it is unfinished or a complete file system: the file system
// is made in a sparse file in memory and copied, its first block last.
func (s *Setup) format(ctx context.Context, d device) error {
	disk, err := os.OpenFile(s.path(d.path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	if _, err := disk.WriteAt([]byte(formatMark), 0); err != nil {
		return err
	}
	if err := disk.Sync(); err != nil {
		return err
	}
	image, err := s.makeFileSystem(ctx, d.size)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := copyData(disk, image, firstBlock, d.size); err != nil {
		return err
	}
	if err := disk.Sync(); err != nil {
		return err
	}
	if err := copyData(disk, image, 0, firstBlock); err != nil {
		return err
	}
	return disk.Sync()
}

// makeFileSystem returns an open, already unlinked file of the given size
// with an empty file system in it.
func (s *Setup) makeFileSystem(ctx context.Context, size int64) (*os.File, error) {
	path := s.path(filepath.Join(guest.SetupRunDir, "format.img"))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	out, err := s.Commands.Run(ctx, "mkfs.ext4", "-q", "-F", "-L", guest.DataLabel, "-m", "0",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mkfs.ext4: %w: %s", err, out), f.Close())
	}
	return f, nil
}

// copyData copies what lies between from and to and is not a hole.
func copyData(dst *os.File, src *os.File, from, to int64) error {
	for from < to {
		start, err := unix.Seek(int(src.Fd()), from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more data
			return nil
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		end, err := unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find hole: %w", err)
		}
		start, end = min(start, to), min(end, to)
		w := io.NewOffsetWriter(dst, start)
		if _, err := io.Copy(w, io.NewSectionReader(src, start, end-start)); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		from = end
	}
	return nil
}

// makeDirectories lays out the data disk, or the same place on the root
// disk, and shows its parts where they are used.
func (s *Setup) makeDirectories(context.Context) (string, error) {
	owner, err := s.account(guest.ServiceUser)
	if err != nil {
		return "", err
	}
	if s.dataErr != nil {
		// The root disk stands in for what must work all the same: keys and
		// the way in. The daemon does not start.
		return "on the root disk, since the data disk cannot be used", s.ensureDir(guest.StateDir, 0o750, owner.uid, owner.gid)
	}
	for _, d := range []struct {
		path     string
		mode     os.FileMode
		uid, gid int
	}{
		{guest.DataDir + "/ssh", 0o700, 0, 0},
		{guest.DataDir + "/state", 0o750, owner.uid, owner.gid},
		{guest.DataDir + "/containers", 0o700, owner.uid, owner.gid},
		{guest.StateDir, 0o750, owner.uid, owner.gid},
		{"/home/rockpool/.local", 0o700, owner.uid, owner.gid},
		{"/home/rockpool/.local/share", 0o700, owner.uid, owner.gid},
		{guest.ContainerDir, 0o700, owner.uid, owner.gid},
	} {
		if err := s.ensureDir(d.path, d.mode, d.uid, d.gid); err != nil {
			return "", err
		}
	}
	mounts, err := s.mounts()
	if err != nil {
		return "", err
	}
	for _, b := range [][2]string{{guest.DataDir + "/state", guest.StateDir}, {guest.DataDir + "/containers", guest.ContainerDir}} {
		if _, ok := mounts[b[1]]; ok {
			continue
		}
		if err := s.Kernel.Mount(b[0], b[1], "", unix.MS_BIND, ""); err != nil {
			return "", fmt.Errorf("show %s at %s: %w", b[0], b[1], err)
		}
	}
	return "ready", nil
}

// makeEcosystemDir makes the directory of the project's processes, which belongs
// to the SSH user whatever ids that one has by now.
func (s *Setup) makeEcosystemDir(context.Context) (string, error) {
	login, err := s.account(guest.AdminUser)
	if err != nil {
		return "", err
	}
	var before syscall.Stat_t
	if err := syscall.Lstat(s.path(guest.EcosystemDir), &before); err == nil && (int(before.Uid) != login.uid || int(before.Gid) != login.gid) {
		old := account{uid: int(before.Uid), gid: int(before.Gid)}
		if err := s.chownTree(guest.EcosystemDir, old, login.uid, login.gid); err != nil {
			return "", err
		}
	}

	for _, dir := range []string{guest.EcosystemDir, guest.EcosystemHome} {
		if err := s.ensureDir(dir, 0o700, login.uid, login.gid); err != nil {
			return "", err
		}
	}
	return "ready", nil
}
