package agent

import "context"

// ImageState is which image a workspace is made from, and which one a new
// workspace of the same reference is made from now.
type ImageState struct {
	Reference string // as its owner asked for it
	Digest    string // of the image that its files belong to, "" before there are any
	Newest    string // "" while that is not known, as of an image from a registry
}

// Newer tells whether there is another image that the workspace can move on to.
func (s ImageState) Newer() bool {
	return s.Digest != "" && s.Newest != "" && s.Digest != s.Newest
}

// ImageChange is what moving on changes in a workspace: all outside the home
// directory becomes the newest image's.
type ImageChange struct {
	ImageState
	Packages []string // Debian packages that it has and the newest image has not, by name
	Unknown  bool     // which those are could not be read
}

// ImageSource knows the image that the VM carries, which new workspaces are made
// from unless their owner names another.
type ImageSource interface {
	// DefaultDigest is that of the image that the VM carries now;
	// [CodeValidation] when it carries none. It is read without asking anybody.
	DefaultDigest(ctx context.Context) (string, error)
	// Packages names the Debian packages that a workspace with files has and that
	// image has not, in order. It may take seconds.
	Packages(ctx context.Context, id string) ([]string, error)
}
