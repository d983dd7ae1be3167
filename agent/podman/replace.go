//go:build remote

package podman

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	podmancopy "github.com/containers/podman/v5/pkg/copy"

	"github.com/rockpool/rootvm/agent"
)

// replaceScript is a program, not a template: what it works on are its
// arguments.
//
//go:embed replace.sh
var replaceScript string

// Exit codes of replace.sh: the file is another by now, after sysexits(3), and, as
// shells have it, a program cannot be run or is not there.
const (
	exitChanged = 75
	exitNotRun  = 126
	exitMissing = 127
)

// shell is where an image has a shell that has one.
const shell = "/bin/sh"

var _ agent.FileReplacer = (*Engine)(nil)

// ReplaceFile implements [agent.FileReplacer]. The new content is laid beside the
// file, and a program in the container compares and renames at once: between a
// look from here and a write from here a user has time for an edit. Only an image
// that has no such programs leaves no other way.
func (e *Engine) ReplaceFile(ctx context.Context, id, name string, old agent.File, content []byte) (replaced bool, err error) {
	name, err = absolute(name)
	if err != nil {
		return false, err
	}
	if len(content) > agent.MaxFileSize {
		return false, tooLarge(name)
	}

	able := false
	err = e.call(ctx, "replace file", func(ctx context.Context) error {
		able, replaced, err = e.replaceInside(ctx, id, name, old, content)
		return err
	})
	if err != nil || able {
		return replaced, err
	}
	err = e.call(ctx, "replace file", func(ctx context.Context) error {
		replaced, err = e.replaceOutside(ctx, id, name, old, content)
		return err
	})
	return replaced, err
}

// replaceInside has replace.sh do it, which the container may not be able to run.
func (e *Engine) replaceInside(ctx context.Context, id, name string, old agent.File, content []byte) (able, replaced bool, err error) {
	if _, err := running(ctx, id); err != nil {
		return false, false, err
	}
	// Without a shell, nothing could remove what was laid beside the file.
	if _, err := containers.Stat(ctx, containerName(id), shell); errors.Is(err, podmancopy.ErrENOENT) {
		return false, false, nil
	}
	target, mode, err := destination(ctx, id, name)
	if err != nil {
		return false, false, err
	}
	beside := "." + path.Base(target) + ".rockpool-new"
	if err := e.put(ctx, id, path.Dir(target), []file{{name: beside, mode: mode, content: content}}); err != nil {
		return false, false, err
	}

	code, output, err := e.exec(ctx, id, command{
		argv: []string{"sh", "-c", replaceScript, "replace", target, path.Join(path.Dir(target), beside), digestOf(old)},
	})
	switch {
	case hasCause(err, define.ErrOCIRuntimeNotFound) || err == nil && (code == exitNotRun || code == exitMissing):
		return false, false, nil
	case err != nil:
		return false, false, err
	case code == 0 || code == exitChanged:
		return true, code == 0, nil
	}
	return false, false, fmt.Errorf("replace %s: exit code %d: %s", name, code, output)
}

// replaceOutside looks at the file and writes it from here. An edit that a user
// makes between the two requests is lost; so nothing else is between them.
func (e *Engine) replaceOutside(ctx context.Context, id, name string, old agent.File, content []byte) (replaced bool, err error) {
	target, mode, err := destination(ctx, id, name)
	if err != nil {
		return false, err
	}
	dir := path.Dir(target)
	if err := e.put(ctx, id, dir, nil); err != nil { // the directory
		return false, err
	}
	archive, err := pack([]file{{name: path.Base(target), mode: mode, content: content}}, e.Now())
	if err != nil {
		return false, err
	}

	now, err := fileNow(ctx, id, target)
	if code := agent.ErrorCode(err); code == agent.CodeConflict || code == agent.CodeTooLarge {
		return false, nil // it is something else by now
	}
	if err != nil || now != old {
		return false, err
	}
	if err := upload(ctx, id, dir, archive); err != nil {
		return false, err
	}
	return true, nil
}

// fileNow is what a file holds.
func fileNow(ctx context.Context, id, name string) (now agent.File, err error) {
	err = download(ctx, id, name, func(r io.Reader) error {
		content, err := onlyFile(r, name)
		now = agent.FileOf(string(content))
		return err
	})
	if isNotFound(err) {
		return agent.File{}, nil
	}
	return now, err
}

// digestOf is what replace.sh compares a file with.
func digestOf(f agent.File) string {
	if !f.Exists {
		return ""
	}
	sum := sha256.Sum256([]byte(f.Content))
	return hex.EncodeToString(sum[:])
}
