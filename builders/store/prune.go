package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
)

// Entry is a result in the store, for people.
type Entry struct {
	Step string
	Key  string
	Made time.Time
	Used time.Time // last
	Size int64     // of its files, bytes

	inputs []Input
	dir    string
}

// List returns what the store has, the last used first. Entries without a record,
// which the next build of their step makes again, are left out.
func (s Store) List() ([]Entry, error) {
	records, err := filepath.Glob(filepath.Join(s.Dir, "*", "*", recordName))
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, file := range records {
		dir := filepath.Dir(file)
		if strings.Contains(filepath.Base(dir), ".") { // under way
			continue
		}
		rec, err := loadRecord(dir)
		if err != nil {
			continue
		}
		e := Entry{Step: rec.Step, Key: filepath.Base(dir), Made: rec.Made, Used: rec.Made, Size: rec.Size, inputs: rec.Inputs, dir: dir}
		if info, err := os.Stat(filepath.Join(dir, usedName)); err == nil {
			e.Used = info.ModTime()
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	return list, nil
}

// young is how long after its last use a result is not pruned: a build or a
// program may be using it.
const young = 24 * time.Hour

// Prune removes what was not used for longer than age, and then, the longest
// unused first, what is over size bytes in all. It returns what it removed. What
// killed builds left goes too.
func (s Store) Prune(size int64, age time.Duration) (removed []Entry, err error) {
	faults := []error{s.removeLeft()}
	list, err := s.List()
	if err != nil {
		return nil, err
	}

	var kept int64
	for _, e := range list {
		unused := time.Since(e.Used)
		if kept += e.Size; unused < young || unused < age && kept <= size {
			continue
		}
		gone, err := e.remove()
		if err != nil {
			faults = append(faults, fmt.Errorf("remove %s %s: %w", e.Step, e.Key, err))
		}
		if gone {
			kept -= e.Size
			removed = append(removed, e)
		}
	}
	return removed, errors.Join(faults...)
}

// remove reports whether the entry is gone: not if another process holds it.
func (e Entry) remove() (gone bool, err error) {
	unlock, ok := builders.TryLockFile(e.dir + lockSuffix)
	if !ok {
		return false, nil
	}
	defer unlock()
	if err := os.Remove(filepath.Join(e.dir, recordName)); err != nil { // half of it is no result
		return false, err
	}
	return true, errors.Join(removeTree(e.dir), os.Remove(e.dir+lockSuffix))
}

// removeLeft removes what builds were making when they were killed, and locks of
// results that are gone.
func (s Store) removeLeft() error {
	locks, err := filepath.Glob(filepath.Join(s.Dir, "*", "*"+lockSuffix))
	if err != nil {
		return err
	}
	var faults []error
	for _, file := range locks {
		unlock, ok := builders.TryLockFile(file)
		if !ok {
			continue
		}
		entry := strings.TrimSuffix(file, lockSuffix)
		faults = append(faults, removeTree(entry+".partial"))
		if _, err := os.Lstat(entry); errors.Is(err, os.ErrNotExist) {
			faults = append(faults, os.Remove(file))
		}
		unlock()
	}
	return errors.Join(faults...)
}

// Difference is an input of which two builds of a step differ.
type Difference struct {
	Input       string
	Before, Now string // digests; "" where one had no such input
}

// Why compares the two results of a step that were made last: its differences are
// why the later one was made. No two results are [os.ErrNotExist].
func (s Store) Why(step string) (before, now Entry, differences []Difference, err error) {
	list, err := s.List()
	if err != nil {
		return before, now, nil, err
	}
	list = slices.DeleteFunc(list, func(e Entry) bool { return e.Step != step })
	if len(list) < 2 {
		return before, now, nil, fmt.Errorf("the cache has %d results of the step %q, and two are needed to compare: %w", len(list), step, os.ErrNotExist)
	}
	slices.SortFunc(list, func(a, b Entry) int { return b.Made.Compare(a.Made) })
	now, before = list[0], list[1]
	return before, now, compare(before.inputs, now.inputs), nil
}

func compare(before, now []Input) (list []Difference) {
	digestOf := func(inputs []Input, name string) string {
		if i := slices.IndexFunc(inputs, func(in Input) bool { return in.Name == name }); i >= 0 {
			return inputs[i].Digest
		}
		return ""
	}
	for _, in := range now {
		if was := digestOf(before, in.Name); was != in.Digest {
			list = append(list, Difference{Input: in.Name, Before: was, Now: in.Digest})
		}
	}
	for _, in := range before {
		if digestOf(now, in.Name) == "" {
			list = append(list, Difference{Input: in.Name, Before: in.Digest})
		}
	}
	return list
}
