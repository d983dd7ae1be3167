// Package store keeps what builds made, each result under the digest of all that
// it was made from, so that it is never made twice and never taken for another.
//
// A result is a directory of files. It appears under its name at once, whole and
// on the disk; a record beside the files holds the digest of each, and a result
// that is not as its record says is named, removed and made again. Builds, also
// those of other processes, may use one store at the same time: one makes a
// result, the others wait for it. Killing a build at any moment leaves nothing
// that is ever taken for a result.
//
// The store owns the directory that it is given, and nothing else.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/builders"
)

// format changes when a stored result would be wrong.
const format = "rockpool store 1"

// Recipe says what a result is made from. Two with the same digests are the same
// result.
type Recipe struct {
	Step   string // what makes it, such as "tools": a name for a file, and for people
	Inputs []Input
}

// Input is one thing that shapes a result.
type Input struct {
	Name   string `json:"name"` // for people, such as "package lock"
	Digest string `json:"digest"`
}

// Value adds values to the inputs: settings, arguments, digests that are known.
func (r *Recipe) Value(name string, values ...any) {
	r.Inputs = append(r.Inputs, Input{name, builders.DigestOf(values...)})
}

// Files adds the files at or below path to the inputs, as [builders.DigestFiles]
// sees them.
func (r *Recipe) Files(name, path string) error {
	digest, err := builders.DigestFiles(path)
	if err != nil {
		return err
	}
	r.Inputs = append(r.Inputs, Input{name, digest})
	return nil
}

// key names the result, in hexadecimal.
func (r Recipe) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", format, r.Step)
	for _, in := range r.Inputs {
		fmt.Fprintf(h, "%d:%s,%d:%s\n", len(in.Name), in.Name, len(in.Digest), in.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// Store is a directory of results. Its methods may be called at the same time,
// also by several processes.
type Store struct {
	Dir string       // made when it is missing
	Say func(string) // tells a person what was found damaged; nil: nobody
}

// Names of an entry, the directory <step>/<key> of a store.
const (
	filesName  = "files"
	recordName = "record.json"
	usedName   = "used" // its time of modification is the last use
	lockSuffix = ".lock"
)

// Make returns the directory with the files of a result, and whether the store
// had it. If not, build fills an empty directory with them. Nobody changes the
// files of a result.
func (s Store) Make(ctx context.Context, r Recipe, build func(ctx context.Context, dir string) error) (dir string, cached bool, err error) {
	entry := s.entry(r)
	if s.sound(r, entry) {
		return filepath.Join(entry, filesName), true, nil
	}
	if err := os.MkdirAll(filepath.Dir(entry), 0o755); err != nil {
		return "", false, fmt.Errorf("%s: %w", r.Step, err)
	}
	unlock, err := builders.LockFile(ctx, entry+lockSuffix)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", r.Step, err)
	}
	defer unlock()
	if s.sound(r, entry) {
		return filepath.Join(entry, filesName), true, nil // another build was first
	}

	if err := s.make(ctx, r, entry, build); err != nil {
		return "", false, fmt.Errorf("%s: %w", r.Step, err)
	}
	return filepath.Join(entry, filesName), false, nil
}

// Find returns the directory of a result that the store has, without waiting.
func (s Store) Find(r Recipe) (dir string, ok bool) {
	entry := s.entry(r)
	return filepath.Join(entry, filesName), s.sound(r, entry)
}

func (s Store) entry(r Recipe) string { return filepath.Join(s.Dir, r.Step, r.key()) }

// sound reports whether the entry is there and as its record says.
func (s Store) sound(r Recipe, entry string) bool {
	err := verify(entry)
	switch {
	case err == nil:
		now := time.Now()
		_ = os.Chtimes(filepath.Join(entry, usedName), now, now) // for pruning alone
		return true
	case !errors.Is(err, os.ErrNotExist) && s.Say != nil:
		s.Say(fmt.Sprintf("%s in the cache is damaged and is made again: %v", r.Step, err))
	}
	return false
}

// make fills the entry, whose lock the caller holds.
func (s Store) make(ctx context.Context, r Recipe, entry string, build func(ctx context.Context, dir string) error) (err error) {
	partial := entry + ".partial"
	for _, left := range []string{partial, entry} { // of a killed build, and what is damaged
		if err := removeTree(left); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, removeTree(partial)) }()

	files := filepath.Join(partial, filesName)
	if err := os.MkdirAll(files, 0o755); err != nil {
		return err
	}
	if err := build(ctx, files); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, usedName), nil, 0o644); err != nil {
		return err
	}
	if err := writeRecord(partial, r); err != nil {
		return err
	}
	if err := syncAll(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, entry); err != nil {
		return err
	}
	return syncAll(filepath.Dir(entry))
}

// syncAll brings the file system of dir to the disk.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syncfs(f); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// removeTree removes a tree of our own files, directories that we may not write
// to included.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
