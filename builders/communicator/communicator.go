// Package communicator is Packer's way into a root file system: [Communicator]
// runs provisioners in it, and [Layers] remembers what their commands did, in a
// store of results that it is given.
package communicator

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/upload.sh
var uploadScript string

//go:embed scripts/upload-dir.sh
var uploadDirScript string

// Communicator runs Packer's provisioners in a root file system, as its root.
type Communicator struct {
	root *userns.Root
}

var _ packersdk.Communicator = (*Communicator)(nil)

// New is the communicator of a root file system.
func New(root *userns.Root) *Communicator { return &Communicator{root} }

// Start implements packersdk.Communicator. The exit status of a command that
// ctx ended is packersdk.CmdDisconnect; of one that a signal ended, 128 and
// the signal's number.
func (c *Communicator) Start(ctx context.Context, remote *packersdk.RemoteCmd) error {
	cmd := c.root.Command(ctx, "/bin/sh", "-c", remote.Command)
	cmd.Stdout, cmd.Stderr = remote.Stdout, remote.Stderr
	if remote.Stdin != nil {
		// Not cmd.Stdin: Wait would wait for a reader that has no end.
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return fmt.Errorf("start in %s: %w", c.root.Dir, err)
		}
		go func() {
			defer stdin.Close()
			_, _ = io.Copy(stdin, remote.Stdin) // ends when the command does not listen any more
		}()
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in %s: %w", c.root.Dir, err)
	}
	go func() { remote.SetExited(exitStatus(ctx, cmd.Wait())) }()
	return nil
}

func exitStatus(ctx context.Context, err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return packersdk.CmdDisconnect
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	return packersdk.CmdDisconnect
}

// Upload implements packersdk.Communicator: src becomes the file dst, owned by
// root, with the mode of fi as git has it, or 0644. When dst is a directory or ends in a
// slash, the file is made in it under the name of fi. Missing directories are
// made.
func (c *Communicator) Upload(dst string, src io.Reader, fi *os.FileInfo) error {
	mode, name := fs.FileMode(0o644), "upload"
	if fi != nil {
		mode, name = builders.GitMode((*fi).Mode()), (*fi).Name()
	}
	ctx := context.Background()
	cmd := c.root.Command(ctx, "/bin/sh", "-c", uploadScript, "upload", dst, fmt.Sprintf("%04o", mode.Perm()), path.Base(name))
	cmd.Stdin = src
	return userns.Run(ctx, cmd, "upload "+dst)
}

// UploadDir implements packersdk.Communicator: the tree src becomes dst/src,
// or dst itself when src ends in a slash. Everything is owned by root;
// symbolic links are kept, modes are as git has them, times are not kept. exclude lists paths below src, or patterns of
// [path.Match] for them.
func (c *Communicator) UploadDir(dst, src string, exclude []string) error {
	if !strings.HasSuffix(src, "/") {
		dst = path.Join(dst, filepath.Base(src))
	}
	pipeReader, pipeWriter := io.Pipe()
	go func() { pipeWriter.CloseWithError(archiveDir(pipeWriter, src, exclude)) }()
	defer pipeReader.Close()
	ctx := context.Background()
	cmd := c.root.Command(ctx, "/bin/sh", "-c", uploadDirScript, "upload-dir", dst)
	cmd.Stdin = pipeReader
	return userns.Run(ctx, cmd, "upload directory "+dst)
}

// archiveDir writes the tree src as a tar archive with names relative to it,
// in lexical order.
func archiveDir(w io.Writer, src string, exclude []string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(src, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(src, file)
		if err != nil || name == "." {
			return err
		}
		if excludes(exclude, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return archiveFile(tw, file, name)
	})
	return errors.Join(err, tw.Close())
}

func excludes(exclude []string, name string) bool {
	for _, pattern := range exclude {
		if ok, err := path.Match(strings.TrimSuffix(pattern, "/"), name); err == nil && ok {
			return true
		}
	}
	return false
}

func archiveFile(tw *tar.Writer, file, name string) error {
	fi, err := os.Lstat(file)
	if err != nil {
		return err
	}

	link := ""
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	case !fi.IsDir() && !fi.Mode().IsRegular():
		return nil // sockets, pipes, devices
	}

	header, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}

	// The time of a file in a checkout says nothing: it gets that of the upload.
	header.Name, header.Format, header.ModTime = name, tar.FormatPAX, time.Unix(0, 0)
	header.Mode = int64(builders.GitMode(fi.Mode()).Perm())
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	if err := tw.WriteHeader(header); err != nil || !fi.Mode().IsRegular() {
		return err
	}

	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

// Download implements packersdk.Communicator.
func (c *Communicator) Download(src string, dst io.Writer) error {
	ctx := context.Background()
	cmd := c.root.Command(ctx, "cat", "--", src)
	cmd.Stdout = dst
	return userns.Run(ctx, cmd, "download "+src)
}

// DownloadDir implements packersdk.Communicator: the tree src becomes dst/src,
// or dst itself when src ends in a slash. Files belong to the caller; exclude
// is as for [Communicator.UploadDir].
func (c *Communicator) DownloadDir(src, dst string, exclude []string) error {
	if !strings.HasSuffix(src, "/") {
		dst = filepath.Join(dst, path.Base(src))
	}
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return fmt.Errorf("download directory %s: %w", src, err)
	}

	pipeReader, pipeWriter := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := c.root.Command(ctx, "tar", "-cf", "-", "-C", src, ".")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = pipeWriter, &stderr

	done := make(chan error, 1)
	go func() {
		err := cmd.Run()
		pipeWriter.CloseWithError(err)
		done <- err
	}()

	err := extractDir(pipeReader, dst, exclude)
	if err != nil {
		cancel()
	}
	pipeReader.CloseWithError(io.ErrClosedPipe)
	if runErr := <-done; runErr != nil && stderr.Len() > 0 {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("download directory %s: %w: %s", src, runErr, lines[len(lines)-1])
	}
	if err != nil {
		return fmt.Errorf("download directory %s: %w", src, err)
	}
	return nil
}

// extractDir writes directories, files and symbolic links of a tar archive
// below dst and nowhere else.
func extractDir(r io.Reader, dst string, exclude []string) error {
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()

	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		} else if err != nil {
			return err
		}
		name := path.Clean(header.Name)
		if name == "." || excludedBelow(exclude, name) {
			continue
		}
		if err := extractEntry(root, name, header, tr); err != nil {
			return err
		}
	}
}

// excludedBelow tells whether name or a directory above it is excluded.
func excludedBelow(exclude []string, name string) bool {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if excludes(exclude, name) {
			return true
		}
	}
	return false
}

func extractEntry(root *os.Root, name string, header *tar.Header, r io.Reader) error {
	mode := header.FileInfo().Mode().Perm()

	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		_ = root.Remove(name)
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		_ = root.Remove(name)
		return root.Link(path.Clean(header.Linkname), name)
	case tar.TypeReg:
		_ = root.Remove(name)
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	return nil
}
