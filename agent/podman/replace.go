//go:build remote

package podman

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path"

	"github.com/rockpool/rootvm/agent"
)

// replaceScript is a program, not a template: what it works on are its
// arguments.
//
//go:embed replace.sh
var replaceScript string

// exitChanged is the exit code of replace.sh for a file that is another by now,
// after sysexits(3).
const exitChanged = 75

var _ agent.FileReplacer = (*Engine)(nil)

// ReplaceFile implements [agent.FileReplacer]. The new content is laid beside the
// file, and a program in the container compares and renames at once: between a
// look from here and a write from here a user has time for an edit.
func (e *Engine) ReplaceFile(ctx context.Context, id, name string, old agent.File, content []byte) (replaced bool, err error) {
	name, err = absolute(name)
	if err != nil {
		return false, err
	}
	if len(content) > agent.MaxFileSize {
		return false, tooLarge(name)
	}

	err = e.call(ctx, "replace file", func(ctx context.Context) error {
		if _, err := running(ctx, id); err != nil {
			return err
		}
		target, mode, err := destination(ctx, id, name)
		if err != nil {
			return err
		}
		beside := "." + path.Base(target) + ".rockpool-new"
		if err := e.put(ctx, id, path.Dir(target), []file{{name: beside, mode: mode, content: content}}); err != nil {
			return err
		}

		code, output, err := e.exec(ctx, id, command{
			argv: []string{"sh", "-c", replaceScript, "replace", target, path.Join(path.Dir(target), beside), digestOf(old)},
		})
		switch {
		case err != nil:
			return err
		case code == 0:
			replaced = true
			return nil
		case code == exitChanged:
			return nil
		}
		return fmt.Errorf("replace %s: exit code %d: %s", name, code, output)
	})
	return replaced, err
}

// digestOf is what replace.sh compares a file with.
func digestOf(f agent.File) string {
	if !f.Exists {
		return ""
	}
	sum := sha256.Sum256([]byte(f.Content))
	return hex.EncodeToString(sum[:])
}
