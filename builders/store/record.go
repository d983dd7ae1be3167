package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/builders"
)

// record is what an entry says of itself.
type record struct {
	Step   string       `json:"step"`
	Inputs []Input      `json:"inputs"`
	Made   time.Time    `json:"made"`
	Size   int64        `json:"size"`  // of all files, bytes
	Files  []fileRecord `json:"files"` // in lexical order, the directory itself first
}

// fileRecord is one file, directory or symbolic link.
type fileRecord struct {
	Path   string      `json:"path"` // below the files' directory
	Mode   fs.FileMode `json:"mode"`
	Size   int64       `json:"size,omitempty"`
	Digest string      `json:"digest,omitempty"` // of a file's content or of where a link leads, SHA-256 in hexadecimal
	// Changed is when the kernel saw the file change last (st_ctime), nanoseconds
	// since 1970. No program can set it back, so a file that has it still has its
	// content.
	Changed int64 `json:"changed"`
}

// writeRecord records what lies in the entry at dir.
func writeRecord(dir string, r Recipe) error {
	rec := record{Step: r.Step, Inputs: r.Inputs, Made: time.Now().UTC()}
	root := filepath.Join(dir, filesName)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := look(root, path)
		if err != nil {
			return err
		}
		if f.Digest, err = digest(path, f.Mode); err != nil {
			return err
		}
		rec.Size += f.Size
		rec.Files = append(rec.Files, f)
		return nil
	})
	if err != nil {
		return err
	}
	return saveRecord(dir, rec)
}

func saveRecord(dir string, rec record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return builders.WriteFile(filepath.Join(dir, recordName), b)
}

func loadRecord(dir string) (record, error) {
	var rec record
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("%s: %w", recordName, err)
	}
	return rec, nil
}

// look describes a file without reading it.
func look(root, path string) (fileRecord, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return fileRecord{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return fileRecord{}, err
	}
	f := fileRecord{Path: rel, Mode: info.Mode(), Changed: changed(info)}
	if info.Mode().IsRegular() {
		f.Size = info.Size()
	}
	return f, nil
}

// digest is that of a file's content, of where a link leads, or "" for others.
func digest(path string, mode fs.FileMode) (string, error) {
	if !mode.IsRegular() && mode&fs.ModeSymlink == 0 {
		return "", nil
	}
	h := sha256.New()
	if err := builders.HashContent(h, path, mode); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// verify compares an entry with its record: every file's mode and size, and the
// content of those that changed since it was looked at last. An entry that is not
// there is [os.ErrNotExist], any other error names what differs.
func verify(dir string) error {
	rec, err := loadRecord(dir)
	if errors.Is(err, os.ErrNotExist) {
		if _, there := os.Lstat(dir); there == nil {
			return errors.New(recordName + " is missing")
		}
	}
	if err != nil {
		return err
	}

	root, next, touched := filepath.Join(dir, filesName), 0, false
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%s cannot be read", filepath.Base(path))
		}
		now, err := look(root, path)
		if err != nil {
			return err
		}
		if next == len(rec.Files) || rec.Files[next].Path != now.Path {
			return fmt.Errorf("%s is there and should not be, or one before it is missing", now.Path)
		}
		was := &rec.Files[next]
		next++

		if was.Mode != now.Mode || was.Size != now.Size {
			return fmt.Errorf("%s has mode %v and %d bytes, not %v and %d", now.Path, now.Mode, now.Size, was.Mode, was.Size)
		}
		if was.Changed == now.Changed {
			return nil
		}
		// A link to it may have been made, or the store was copied.
		if now.Digest, err = digest(path, now.Mode); err != nil {
			return err
		}
		if was.Digest != now.Digest {
			return fmt.Errorf("%s has other content", now.Path)
		}
		was.Changed, touched = now.Changed, true
		return nil
	})
	if err == nil && next != len(rec.Files) {
		err = fmt.Errorf("%s is missing", rec.Files[next].Path)
	}
	if err == nil && touched {
		_ = saveRecord(dir, rec) // it spares the next one the reading, no more
	}
	return err
}
