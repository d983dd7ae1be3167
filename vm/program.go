package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// savedSupervisor is supervisor.json: how the program that is kept with the
// instance is called.
type savedSupervisor struct {
	Source string   `json:"source"` // where the program was copied from
	Args   []string `json:"args"`   // of the program, before the verb and the directory
}

// keepSupervisor copies the supervisor's program into the instance's directory
// and records its arguments. A machine may run for months, while the program it
// was started with is replaced by another release, removed, or emptied away
// with a cache; and the plan and the state are read best by the code that wrote
// them.
func keepSupervisor(dir string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("keep the supervisor's program: none is given")
	}
	source, err := exec.LookPath(argv[0])
	if err == nil {
		err = copyProgram(filepath.Join(dir, supervisorProgram), source)
	}
	if err != nil {
		return fmt.Errorf("keep the supervisor's program: %w", err)
	}
	return writeJSON(filepath.Join(dir, supervisorFile), savedSupervisor{source, argv[1:]})
}

// keptSupervisor is the argument vector of the program that is kept with the
// instance.
func keptSupervisor(dir string) ([]string, error) {
	var saved savedSupervisor
	if err := readJSON(filepath.Join(dir, supervisorFile), &saved); err != nil {
		return nil, err
	}
	return append([]string{filepath.Join(dir, supervisorProgram)}, saved.Args...), nil
}

// copyProgram makes the file at path a copy of the program at source, in one
// step, so that one that runs is not touched. A file that is a copy already
// stays.
func copyProgram(path, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	if same, err := sameContent(path, in); err != nil || same {
		return err
	}

	out, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o700))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if _, err := io.Copy(out.File, in); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// sameContent says whether the file at path is an executable copy of source,
// whose offset it leaves alone.
func sameContent(path string, source *os.File) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, nil // missing or unreadable: made again
	}
	defer file.Close()
	have, err := file.Stat()
	if err != nil {
		return false, nil
	}
	want, err := source.Stat()
	if err != nil {
		return false, err
	}
	if have.Mode().Perm() != 0o700 || have.Size() != want.Size() {
		return false, nil
	}

	same := true
	const block = 1 << 20
	a, b := make([]byte, block), make([]byte, block)
	for offset := int64(0); same && offset < want.Size(); offset += block {
		n, err := file.ReadAt(a, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, nil
		}
		m, err := source.ReadAt(b, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		same = bytes.Equal(a[:n], b[:m])
	}
	return same, nil
}
