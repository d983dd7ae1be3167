//go:build remote

package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	podmancopy "github.com/containers/podman/v5/pkg/copy"

	"github.com/rockpool/rootvm/agent"
)

// The IDE's configuration, in the home directory.
const (
	configDir  = agent.Home + "/.config/code-server"
	configFile = configDir + "/config.yaml"
	folderFile = configDir + "/workspace-folder"
)

// file is a file or, with dir, a directory to be put into a workspace.
type file struct {
	name    string // relative
	mode    fs.FileMode
	content []byte
	dir     bool
}

// absolute makes a path of a workspace absolute.
func absolute(p string) (string, error) {
	if p == "" || strings.ContainsRune(p, 0) {
		return "", agent.Errorf(agent.CodeValidation, "The path of the file is not valid")
	}
	if !path.IsAbs(p) {
		p = path.Join(agent.Home, p)
	}
	return path.Clean(p), nil
}

// ReadFile implements [agent.Runtime].
func (e *Engine) ReadFile(ctx context.Context, id, name string) ([]byte, error) {
	name, err := absolute(name)
	if err != nil {
		return nil, err
	}
	var content []byte
	err = e.whileShown(ctx, id, func() error {
		return e.call(ctx, "read file", func(ctx context.Context) error {
			return download(ctx, id, name, func(r io.Reader) error {
				content, err = onlyFile(r, name)
				return err
			})
		})
	})
	return content, err
}

// download hands the archive of a file or directory of the container to read.
func download(ctx context.Context, id, name string, read func(io.Reader) error) error {
	r, w := io.Pipe()
	copyAll, err := containers.CopyToArchive(ctx, containerName(id), name, w)
	if isNotFound(err) {
		return agent.Errorf(agent.CodeNotFound, "The workspace has no file %s", name)
	}
	if err != nil {
		return err
	}
	if copyAll == nil {
		return errors.New("podman answered with neither a file nor an error")
	}
	go func() { _ = w.CloseWithError(copyAll()) }()
	defer r.Close()
	return read(r)
}

// onlyFile reads an archive of one file.
func onlyFile(r io.Reader, name string) ([]byte, error) {
	archive := tar.NewReader(r)
	h, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("read the archive of %s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, agent.Errorf(agent.CodeConflict, "%s in the workspace is not a file", name)
	}
	if h.Size > agent.MaxFileSize {
		return nil, tooLarge(name)
	}
	return io.ReadAll(archive)
}

// WriteFile implements [agent.Runtime].
func (e *Engine) WriteFile(ctx context.Context, id, name string, content []byte) error {
	name, err := absolute(name)
	if err != nil {
		return err
	}
	if len(content) > agent.MaxFileSize {
		return tooLarge(name)
	}
	return e.whileShown(ctx, id, func() error {
		return e.call(ctx, "write file", func(ctx context.Context) error {
			target, mode, err := destination(ctx, id, name)
			if err != nil {
				return err
			}
			return e.put(ctx, id, path.Dir(target), []file{{name: path.Base(target), mode: mode, content: content}})
		})
	})
}

func tooLarge(name string) error {
	return agent.Errorf(agent.CodeTooLarge, "%s is larger than %d bytes", name, agent.MaxFileSize)
}

// maxLinks is how many symbolic links may lead to a file, as in Linux.
const maxLinks = 40

// destination is where a file is written, and its mode: that of a file that
// exists. Links are followed, as an editor would: the mode of a link says nothing
// of what it leads to.
func destination(ctx context.Context, id, name string) (target string, mode fs.FileMode, err error) {
	for range maxLinks {
		mode := fs.FileMode(0o644)
		st, err := containers.Stat(ctx, containerName(id), name)
		switch {
		case st != nil && st.Mode&fs.ModeSymlink != 0 && (err == nil || errors.Is(err, podmancopy.ErrENOENT)):
			if !path.IsAbs(st.LinkTarget) {
				st.LinkTarget = path.Join(path.Dir(name), st.LinkTarget)
			}
			name = path.Clean(st.LinkTarget)
			continue
		case err == nil && st.IsDir:
			return "", 0, agent.Errorf(agent.CodeConflict, "%s in the workspace is a directory", name)
		case err == nil:
			mode = st.Mode.Perm()
		case !errors.Is(err, podmancopy.ErrENOENT):
			return "", 0, err
		}
		return name, mode, nil
	}
	return "", 0, agent.Errorf(agent.CodeConflict, "%s in the workspace is a link that leads to itself", name)
}

// put lays files into a directory, which is made when it is missing. What is
// new belongs to the container's user; directories that exist stay as they
// are.
func (e *Engine) put(ctx context.Context, id, dir string, files []file) error {
	var missing []file
	prefix := ""
	for dir != "/" && dir != agent.Home {
		_, err := containers.Stat(ctx, containerName(id), dir)
		if err == nil {
			break
		}
		if !errors.Is(err, podmancopy.ErrENOENT) {
			return err
		}
		prefix = path.Join(path.Base(dir), prefix)
		dir = path.Dir(dir)
	}

	for i, r := range prefix + "/" {
		if r == '/' && i > 0 {
			missing = append(missing, file{name: prefix[:i], mode: 0o755, dir: true})
		}
	}

	for _, f := range files {
		f.name = path.Join(prefix, f.name)
		missing = append(missing, f)
	}

	archive, err := pack(missing, e.Now())
	if err != nil {
		return err
	}
	return upload(ctx, id, dir, archive)
}

// pack makes a tar archive.
func pack(files []file, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode.Perm()), Size: int64(len(f.content)), ModTime: now}
		if f.dir {
			h.Typeflag, h.Name = tar.TypeDir, f.name+"/"
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

// upload unpacks an archive in a directory of the container. The bindings'
// own function loses the reason of a failure.
func upload(ctx context.Context, id, dir string, archive []byte) error {
	conn, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	params := url.Values{"path": {dir}, "copyUIDGID": {"true"}, "noOverwriteDirNonDir": {"true"}}
	response, err := conn.DoRequest(ctx, bytes.NewReader(archive), http.MethodPut, "/containers/%s/archive", params, nil, containerName(id))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return response.Process(nil)
}

// Configure implements [agent.Runtime]. The IDE reads its configuration when
// it starts, so a container is started anew when what it was not told by its
// command line was written since: the folder, and for images of the user's own
// all of it. Whether it was is remembered here: the times of the files are the
// workspace's to set. Of a container that runs since before this program, which
// was interrupted, nothing is remembered, and it is started anew.
func (e *Engine) Configure(ctx context.Context, id string, c agent.IDEConfig) error {
	return e.call(ctx, "configure", func(ctx context.Context) error {
		container, err := running(ctx, id)
		if err != nil {
			return err
		}
		image := container.Config.Labels[labelImage]
		told := image == "" || image == agent.DefaultImage
		if err := e.writeConfig(ctx, id, c, told); err != nil {
			return err
		}
		if e.readsConfig(id, container.State.StartedAt) {
			return nil
		}
		e.Log.Info("starting the container again for its IDE's configuration", "workspace", id)
		if err := stopContainer(ctx, id, 1); err != nil {
			return err
		}
		if err := startWhenFree(ctx, containerName(id)); err != nil {
			return err
		}
		e.noteStart(ctx, id)
		return nil
	})
}

// noteStart remembers the container's present life: it began with the
// configuration as it is. One that cannot be asked for is not remembered.
func (e *Engine) noteStart(ctx context.Context, id string) {
	c, err := inspect(ctx, id)
	if err != nil {
		e.Log.Debug("the start of a container is not known", "workspace", id, "err", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.starts == nil {
		e.starts = map[string]time.Time{}
	}
	e.starts[id] = c.State.StartedAt
}

// forgetStart is for what is written that only a new start applies.
func (e *Engine) forgetStart(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.starts, id)
}

// readsConfig reports whether a container's life that began at a time is known
// to have begun with the configuration as it is.
func (e *Engine) readsConfig(id string, started time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok := e.starts[id]
	return ok && known.Equal(started)
}

// writeConfig makes the files say c. told says that the container's command
// line says what is in the first of them.
func (e *Engine) writeConfig(ctx context.Context, id string, c agent.IDEConfig, told bool) error {
	there, err := readConfig(ctx, id)
	if err != nil {
		return inTheWay(ctx, id, err)
	}

	folder := folderContent(c.Folder)
	var stale []file
	for _, f := range []file{
		{name: path.Base(configFile), mode: 0o644, content: []byte("abs-proxy-base-path: " + basePath(c.Name) + "\n")},
		{name: path.Base(folderFile), mode: 0o644, content: folder},
	} {
		if !bytes.Equal(there[f.name], f.content) {
			stale = append(stale, f)
		}
	}

	if stale == nil {
		return nil
	}
	otherFolder := !bytes.Equal(there[path.Base(folderFile)], folder)
	if otherFolder || !told {
		e.forgetStart(id)
	}
	if otherFolder {
		if err := e.ensureFolder(ctx, id, c.Folder); err != nil {
			return err
		}
	}

	return inTheWay(ctx, id, e.put(ctx, id, configDir, stale))
}

// inTheWay says what of the user's is where the IDE's configuration has to be,
// or its directory, once writing it has failed. Where nothing is, the failure
// had another reason: err.
func inTheWay(ctx context.Context, id string, err error) error {
	if err == nil {
		return nil
	}
	for _, p := range []struct {
		name string
		dir  bool
	}{{path.Dir(configDir), true}, {configDir, true}, {configFile, false}, {folderFile, false}} {
		st, statErr := containers.Stat(ctx, containerName(id), p.name)
		if statErr != nil || st.IsDir == p.dir {
			continue
		}
		return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeUnusableFile,
			"The IDE's configuration cannot be written, because %s in the workspace is something else. Move it away, then start the workspace again.", p.name), err)
	}
	return err
}

// ensureFolder makes a folder that is missing: the IDE opens it from the
// start, Clone fills it.
func (e *Engine) ensureFolder(ctx context.Context, id, folder string) error {
	if folder == "" {
		return nil
	}
	_, err := containers.Stat(ctx, containerName(id), folder)
	if errors.Is(err, podmancopy.ErrENOENT) {
		return e.put(ctx, id, folder, nil)
	}
	return err
}

// readConfig returns the IDE's files. It asks for these two by name: the user
// may have put anything beside them, of any size.
func readConfig(ctx context.Context, id string) (map[string][]byte, error) {
	there := map[string][]byte{}
	for _, name := range []string{configFile, folderFile} {
		content, err := readPlain(ctx, id, name)
		if err != nil {
			return nil, fmt.Errorf("read the IDE's configuration: %w", err)
		}
		there[path.Base(name)] = content
	}
	return there, nil
}

// readPlain reads a file that the user may have made anything of. What is no
// plain file of at most [agent.MaxFileSize] bytes is as good as none, a link
// too: put replaces it and writes nowhere else.
func readPlain(ctx context.Context, id, name string) (content []byte, err error) {
	st, err := containers.Stat(ctx, containerName(id), name)
	if errors.Is(err, podmancopy.ErrENOENT) || st != nil && (!st.Mode.IsRegular() || st.Size > agent.MaxFileSize) {
		return nil, nil
	}
	// Another error of Stat has no text, so the download has to say it. It may
	// find something else than Stat did.
	err = download(ctx, id, name, func(r io.Reader) error {
		content, err = onlyFile(r, name)
		return err
	})
	if code := agent.ErrorCode(err); isNotFound(err) || isLinkLoop(err) || code == agent.CodeConflict || code == agent.CodeTooLarge {
		return nil, nil
	}
	return content, err
}

// folderContent is a line, or nothing for the home directory.
func folderContent(folder string) []byte {
	if folder == "" {
		return nil
	}
	return []byte(folder + "\n")
}
