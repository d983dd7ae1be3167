package agent

import (
	"context"
	"io"
	"regexp"
)

// digestForm is how digests of images are written, by the OCI image
// specification; all images here have SHA-256.
var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ValidDigest reports whether s has the form of a digest, "sha256:" and 64 digits.
func ValidDigest(s string) bool { return digestForm.MatchString(s) }

// Files are what a workspace has on the data disk: its home directory, and its
// own layer, which is all that it changed of its image. They lie in one
// subvolume, stored with the ids of the container (0 to [SlotSize]-1).
type Files struct {
	ID    string // of the workspace
	Slot  int    // whose ids its container has
	Image string // digest of the image that the own layer belongs to, "sha256:…"
	Quota int64  // of home and own layer together, bytes
}

// FilesView is where the container finds its files, with the ids of its slot.
type FilesView struct {
	Root string // directory: the image with the own layer over it
	Home string // directory: [Home] in the container
}

// Storage keeps the files of workspaces and the images below them. Every method
// that changes something is an "ensure", as those of [Runtime]; ids and digests
// are all that it is told, never a path.
//
// [CodeNoSpace] is a full file system, [CodeNotFound] an image that is not
// there, [CodeConflict] files that belong to another slot or image.
type Storage interface {
	// Open makes the files of a workspace unless they are there, takes over those
	// that an older release left, and shows them. A reboot loses what it shows,
	// not what it made. Taking over may take minutes: report is told how far it
	// is, in words for people.
	Open(ctx context.Context, f Files, report func(string)) (FilesView, error)
	// Close ends what Open shows. Nothing may run on it. An unknown id is success.
	Close(ctx context.Context, id string) error
	// Remove deletes the files, which must be closed. An unknown id is success.
	Remove(ctx context.Context, id string) error
	// SetQuota of files that are there, bytes. One below what is used lets
	// nothing be written until files are deleted.
	SetQuota(ctx context.Context, id string, quota int64) error
	// ChangeImage moves files, which must be closed ([CodeConflict]), on to
	// another image, which must be there ([CodeNotFound]): the own layer is
	// deleted, the home directory stays. Files of that image stay as they are.
	ChangeImage(ctx context.Context, id, digest string) error
	// Usage of the whole file system.
	Usage(ctx context.Context) (StorageUsage, error)
	// AddImage stores the root file system of an image from an archive (tar(5),
	// ids of the container), unless it is there. One cut short leaves nothing.
	AddImage(ctx context.Context, digest string, archive io.Reader) error
	// KeepImage stores the VM's own image as if it had been added, unless it is
	// there, so that files of it can be opened when another VM's image has another.
	KeepImage(ctx context.Context) error
	// RemoveImage deletes one that no files need; [CodeConflict] otherwise. The
	// VM's own image is never deleted. An unknown digest is success.
	RemoveImage(ctx context.Context, digest string) error
}

// StorageUsage is who takes what of the file system that workspaces share.
type StorageUsage struct {
	Size   int64 // bytes
	Free   int64 // bytes
	Files  []FilesUsage
	Images []ImageUsage // on the data disk; the VM's own lies elsewhere
}

// FilesUsage is what one workspace takes.
type FilesUsage struct {
	Files
	Used int64 // bytes of home and own layer
	Open bool  // they are shown
}

// ImageUsage is what one image takes.
type ImageUsage struct {
	Digest string
	Size   int64 // bytes
}

// Tidier removes what a runtime keeps and nobody needs.
type Tidier interface {
	// Tidy closes files on which nothing runs, and removes images that no files
	// need. What is in use stays, and so do all files. It waits for nothing that
	// takes long: what is busy now is looked at the next time.
	Tidy(ctx context.Context) error
}
