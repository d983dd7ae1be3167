package builders

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

// Package is one Debian package in an image.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	SHA256       string `json:"sha256"` // of the .deb file
	Size         int64  `json:"size"`   // of the .deb file, bytes
}

// Artifact is one file that a build leaves behind.
type Artifact struct {
	File   string `json:"file"`   // name beside the manifest; of a file in a directory there, a path with slashes
	Format string `json:"format"` // qcow2, raw, kernel, initrd, tart, tart-oci, contents, spdx
	Size   int64  `json:"size"`   // bytes on disk
	SHA256 string `json:"sha256"`
}

// Step is one named part of a build and how long it took.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Cached  bool    `json:"cached"`
}

// Manifest is the record of a build. Its Artifacts, Packages and RootUUID are
// a function of the inputs; Steps, Tools and CompilerDigest tell of the machine that
// built it.
type Manifest struct {
	Name            string            `json:"name"`
	Suite           string            `json:"suite"`
	Architecture    string            `json:"architecture"`
	DiskSize        int64             `json:"diskSize"` // virtual, bytes
	SourceDateEpoch int64             `json:"sourceDateEpoch"`
	Revision        string            `json:"revision,omitempty"` // git commit of the sources, "-dirty" when changed
	RootUUID        string            `json:"rootUUID"`
	CommandLine     string            `json:"commandLine"`              // of the kernel, for launchers that load it themselves
	SourceDigest    string            `json:"sourceDigest,omitempty"`   // settings and sources of the checkout, before anything is compiled
	CompilerDigest  string            `json:"compilerDigest,omitempty"` // of the host's, which compiled what the image has
	InputDigest     string            `json:"inputDigest"`              // everything the image was made from
	LockDigest      string            `json:"lockDigest"`
	Tools           map[string]string `json:"tools"` // name → version
	Packages        []Package         `json:"packages"`
	Artifacts       []Artifact        `json:"artifacts"`
	Steps           []Step            `json:"steps"`
}

// Artifact returns the file of a format.
func (m Manifest) Artifact(format string) (Artifact, bool) {
	for _, a := range m.Artifacts {
		if a.Format == format {
			return a, true
		}
	}
	return Artifact{}, false
}

// SetArtifacts adds artifacts, in the place of those with the same file, and sorts
// all.
func (m *Manifest) SetArtifacts(artifacts ...Artifact) {
	for _, a := range artifacts {
		m.Artifacts = slices.DeleteFunc(m.Artifacts, func(old Artifact) bool { return old.File == a.File })
		m.Artifacts = append(m.Artifacts, a)
	}
	m.SortArtifacts()
}

// SortArtifacts puts the artifacts in order of their file names.
func (m *Manifest) SortArtifacts() {
	sort.Slice(m.Artifacts, func(i, j int) bool { return m.Artifacts[i].File < m.Artifacts[j].File })
}

// Describe hashes the file at path.
func Describe(path, format string) (Artifact, error) {
	f, err := os.Open(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("describe artifact: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return Artifact{}, fmt.Errorf("describe artifact %s: %w", path, err)
	}
	return Artifact{File: filepath.Base(path), Format: format, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// DescribeDirectory hashes the files of the directory dir, in order of their
// names.
func DescribeDirectory(dir, format string) ([]Artifact, error) {
	var all []Artifact
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		a, err := Describe(path, format)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(filepath.Dir(dir), path)
		a.File = filepath.ToSlash(rel)
		all = append(all, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("describe artifact %s: %w", dir, err)
	}
	return all, nil
}

// ReadManifest reads what [Manifest.Write] wrote.
func ReadManifest(path string) (Manifest, error) {
	var m Manifest
	b, err := os.ReadFile(path)
	if err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("read manifest %s: %w: build the image again", path, err)
	}
	return m, nil
}

// Write replaces the manifest at path in one step.
func (m Manifest) Write(path string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return WriteFile(path, append(b, '\n'))
}

// WriteChecksums writes the artifacts of all manifests in the format of
// sha256sum(1), sorted by file name.
func WriteChecksums(path string, manifests ...Manifest) error {
	var lines []string
	for _, m := range manifests {
		for _, a := range m.Artifacts {
			lines = append(lines, a.SHA256+"  "+a.File+"\n")
		}
	}
	sort.Slice(lines, func(i, j int) bool { return lines[i][66:] < lines[j][66:] })
	return WriteFile(path, []byte(strings.Join(lines, "")))
}

// WriteAllChecksums writes SHA256SUMS in the directory dist for every image that
// has a manifest there.
func WriteAllChecksums(dist string) error {
	paths, err := filepath.Glob(filepath.Join(dist, "*.manifest.json"))
	if err != nil {
		return err
	}
	var all []Manifest
	for _, path := range paths {
		m, err := ReadManifest(path)
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	return WriteChecksums(filepath.Join(dist, "SHA256SUMS"), all...)
}

// Stopwatch times the steps of a build.
type Stopwatch struct {
	Now   func() time.Time // time.Now in production
	Steps []Step
}

// Time runs f as a step called name. f says whether its result came from a
// cache. The step is recorded only when f succeeds.
func (s *Stopwatch) Time(name string, f func() (cached bool, err error)) error {
	start := s.Now()
	cached, err := f()
	if err != nil {
		return err
	}
	seconds := s.Now().Sub(start).Seconds()
	s.Steps = append(s.Steps, Step{Name: name, Seconds: float64(int64(seconds*100)) / 100, Cached: cached})
	return nil
}

// Task is a step that is to be done.
type Task struct {
	Name string
	Run  func() (cached bool, err error)
}

// Do says each task on out and does it, one after the other, until one fails.
func (s *Stopwatch) Do(out io.Writer, tasks ...Task) error {
	for _, task := range tasks {
		fmt.Fprintln(out, "==>", task.Name)
		if err := s.Time(task.Name, task.Run); err != nil {
			return fmt.Errorf("%s: %w", task.Name, err)
		}
	}
	return nil
}
