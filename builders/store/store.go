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

// Key names the result, in hexadecimal.
func (r Recipe) Key() string {
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

func (s Store) entry(r Recipe) string { return filepath.Join(s.Dir, r.Step, r.Key()) }

// sound reports whether the entry is there and as its record says. One that is
// not is removed, so that its damage is said once.
func (s Store) sound(r Recipe, entry string) bool {
	err := verify(entry)
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(filepath.Join(entry, usedName), now, now) // for pruning alone
		return true
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.discard(r, entry, err)
	}
	return false
}

// discard says what is wrong with an entry and removes it, unless another build
// has made it again or does.
func (s Store) discard(r Recipe, entry string, fault error) {
	s.sayDamaged(r, fault)
	unlock, ok := builders.TryLockFile(entry + lockSuffix)
	if !ok {
		return
	}
	defer unlock()
	if verify(entry) != nil {
		_ = removeTree(entry) // what is left of it, make removes or complains of
	}
}

func (s Store) sayDamaged(r Recipe, fault error) {
	if s.Say != nil {
		s.Say(fmt.Sprintf("%s in the cache is damaged and is made again: %v", r.Step, fault))
	}
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
	if err := syncTree(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, entry); err != nil {
		return err
	}
	return syncWith(filepath.Dir(entry), (*os.File).Sync)
}

// Remove removes a result that its user found damaged, although it is as its
// record says, and says so. A result that another build is making is left alone.
func (s Store) Remove(r Recipe, fault error) error {
	s.sayDamaged(r, fault)
	entry := s.entry(r)
	unlock, ok := builders.TryLockFile(entry + lockSuffix)
	if !ok {
		return nil
	}
	defer unlock()
	if err := removeTree(entry); err != nil {
		return fmt.Errorf("remove %s: %w", r.Step, err)
	}
	return nil
}

// fewFiles is up to how many files a result is synced file by file: syncing the
// file system waits for all that others have written to it, too.
const fewFiles = 64

// syncTree brings dir and all below it to the disk.
func syncTree(dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			paths = append(paths, path)
		}
		if err == nil && len(paths) > fewFiles {
			return filepath.SkipAll
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(paths) > fewFiles {
		return syncWith(dir, syncfs)
	}

	for _, path := range paths {
		if err := syncWith(path, (*os.File).Sync); err != nil {
			return err
		}
	}
	return nil
}

func syncWith(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := sync(f); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
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
