package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/builders"
)

// incoming begins the names of files in dist/ that have not got their own yet.
const incoming = ".new-"

// promotion brings a finished image into dist/. It may be cut off anywhere:
// dist/ then holds the old image or the new one, whole and named by its
// manifest.
//
// The new files lie beside the old ones under names of their own; then the
// manifest names them, which is the switch; then they get the names that people
// know, and the manifest says so. Whoever comes next goes on where it was cut off
// ([promotion.settle]). Names are given by links, so that both are valid for a
// moment, and in one step, so that a VM that runs from an old file keeps it.
type promotion struct {
	dist, name string
	before     func(step string) error // asked before each step, so that tests can cut off; nil: no one is
}

func (p promotion) manifest() string { return filepath.Join(p.dist, p.name+".manifest.json") }

func (p promotion) step(name string, do func() error) error {
	if p.before != nil {
		if err := p.before(name); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// run moves the files of m from the directory out into dist/.
func (p promotion) run(out string, m builders.Manifest) error {
	if err := os.MkdirAll(p.dist, 0o755); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}

	switched := m
	switched.Artifacts = slices.Clone(m.Artifacts)
	for i, a := range m.Artifacts {
		switched.Artifacts[i].File = incoming + a.File
	}
	for _, name := range namesOf(m) {
		to := filepath.Join(p.dist, incoming+name)
		if err := p.step("bring "+name+" to dist", func() error { return move(filepath.Join(out, name), to) }); err != nil {
			return err
		}
	}
	if err := p.step("make them durable", func() error { return syncDir(p.dist) }); err != nil {
		return err
	}
	if err := p.step("switch to the new image", func() error { return switched.Write(p.manifest()) }); err != nil {
		return err
	}
	return p.settle()
}

// settle finishes a promotion that was cut off after its switch, and clears away
// what one left that was cut off before. Nothing is done where all is in order.
func (p promotion) settle() error {
	m, err := builders.ReadManifest(p.manifest())
	if err == nil && unsettled(m) {
		if err := p.giveNames(m); err != nil {
			return err
		}
	}
	// Without a manifest that can be read, nobody names the files.
	left, err := filepath.Glob(filepath.Join(p.dist, incoming+p.name+".*"))
	if err != nil || left == nil {
		return err
	}
	for _, file := range left {
		if err := p.step("remove "+filepath.Base(file), func() error { return os.RemoveAll(file) }); err != nil {
			return err
		}
	}
	return nil
}

// unsettled reports whether a manifest names files that have not got their own
// names yet.
func unsettled(m builders.Manifest) bool {
	return slices.ContainsFunc(m.Artifacts, func(a builders.Artifact) bool { return strings.HasPrefix(a.File, incoming) })
}

// giveNames gives the files that m names the names that people know.
func (p promotion) giveNames(m builders.Manifest) error {
	for i, a := range m.Artifacts {
		m.Artifacts[i].File = strings.TrimPrefix(a.File, incoming)
	}
	for _, name := range namesOf(m) {
		err := p.step("name "+name, func() error { return linkOver(filepath.Join(p.dist, incoming+name), filepath.Join(p.dist, name)) })
		if err != nil {
			return err
		}
	}
	if err := p.step("make the names durable", func() error { return syncDir(p.dist) }); err != nil {
		return err
	}
	if err := p.step("name them in the manifest", func() error { return m.Write(p.manifest()) }); err != nil {
		return err
	}
	return p.step("make the manifest durable", func() error { return syncDir(p.dist) })
}

// namesOf are the files and directories beside the manifest that m's files are,
// or are in.
func namesOf(m builders.Manifest) []string {
	var names []string
	for _, a := range m.Artifacts {
		name, _, _ := strings.Cut(a.File, "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// move renames a file or directory and makes the content durable, or copies
// where the two lie on different file systems.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		if err := copyOver(from, to); err != nil {
			return err
		}
		return os.RemoveAll(from)
	}
	return syncAll(to)
}

// linkOver lets the name to, whatever it named, name the file from in one step.
// Of a directory it makes another with the same files. Where links are impossible
// it is a copy.
func linkOver(from, to string) error {
	between := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+"0") // as [builders.UnfinishedFiles]
	if err := os.RemoveAll(between); err != nil {
		return err
	}
	if err := linkAll(from, between); err != nil {
		return copyOver(from, to)
	}

	if isDirectory(from) || isDirectory(to) {
		return builders.ReplaceDirectory(between, to)
	}
	if err := os.Rename(between, to); err != nil {
		return err
	}
	// When both names were the same file already, rename(2) leaves them.
	return os.RemoveAll(between)
}

// linkAll links a file, or makes a directory of links to the files of another.
func linkAll(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return os.Link(path, filepath.Join(to, rel))
		}
		dir := filepath.Join(to, rel)
		return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755))
	})
}

func isDirectory(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// copyOver replaces a file or directory by a durable copy of another in one step.
func copyOver(from, to string) error {
	if isDirectory(from) {
		return copyDirectoryOver(from, to)
	}
	f, err := builders.CreateFile(to)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := exec.Command("cp", "--sparse=always", from, f.Name()).Run(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return f.CloseAtomicallyReplace()
}

func copyDirectoryOver(from, to string) error {
	between := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+"0")
	if err := os.RemoveAll(between); err != nil {
		return err
	}
	if err := exec.Command("cp", "-R", "-p", "--sparse=always", from, between).Run(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := syncAll(between); err != nil {
		return err
	}
	return builders.ReplaceDirectory(between, to)
}

// syncAll makes a file, or a directory and all in it, durable.
func syncAll(path string) error {
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
