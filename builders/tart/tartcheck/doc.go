// Package tartcheck reads the Root VM for Tart and says what is wrong with it:
// with a VM's directory, with an OCI artifact, and with the disk in them. An
// artifact in which nothing is wrong it makes a directory of. It is
// written apart from builders/tart, from the description of the formats alone,
// so that a mistake in one is no agreement of both; Tart itself checks little,
// not even the digests of what it pulls. It owns no state and imports builders.
package tartcheck

import "errors"

// Faults, each wrapped with where it was found.
var (
	ErrConfig     = errors.New("config.json is not a Linux VM's for Tart")
	ErrNVRAM      = errors.New("nvram.bin is not an empty variable store")
	ErrFiles      = errors.New("not the files of a VM")
	ErrLayout     = errors.New("not an OCI layout of one manifest")
	ErrMediaType  = errors.New("unknown media type")
	ErrOrder      = errors.New("layers out of order")
	ErrAnnotation = errors.New("wrong annotation")
	ErrDigest     = errors.New("wrong digest")
	ErrSize       = errors.New("wrong size")
	ErrStream     = errors.New("not a stream of Apple's LZ4")
	ErrTruncated  = errors.New("cut off")
	ErrDisk       = errors.New("not the same disk")
)
