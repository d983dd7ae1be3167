package storage

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// loopBlock is the size of a loop device's blocks, in bytes: that of the file
// systems on both sides of it.
const loopBlock = 4096

// attach makes a loop device of a file. The device is free again when nobody has
// it open: the caller until it is mounted, then the kernel.
func attach(file string) (*os.File, error) {
	backing, err := os.OpenFile(file, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("find a free loop device: %w", err)
	}
	defer control.Close()

	for {
		device, err := configure(control, backing)
		if errors.Is(err, unix.EBUSY) { // another program was faster
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make a loop device of %s: %w", file, err)
		}
		return device, nil
	}
}

// configure makes the first free loop device one of a file. Direct I/O keeps the
// content out of the cache of the file system below, which has it a second time
// otherwise.
func configure(control, backing *os.File) (*os.File, error) {
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	device, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}

	config := unix.LoopConfig{
		Fd:   uint32(backing.Fd()),
		Size: loopBlock,
		Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO},
	}
	err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	if errors.Is(err, unix.EINVAL) { // the file system below cannot do direct I/O
		config.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	}
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return device, nil
}

// resizeDevice has a loop device take the size of its file.
func resizeDevice(path string) error {
	device, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("grow %s: %w", path, err)
	}
	return nil
}
