// Package images holds what the workspace image is: its [Spec], what a build
// of it is asked ([Request]) and answers ([Result]), and, in workspace/, its
// definition: Containerfile, scripts, files, package lists and npm locks.
// The directories below it each are one dependency. It imports nothing of this
// project and owns no state.
package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Values a [Spec] may take.
var (
	Suites    = []string{"trixie", "bookworm"}
	Platforms = []string{"linux/amd64", "linux/arm64"}
)

// Source is where the image's definition is kept, for its labels.
const Source = "https://github.com/rockpool/rootvm"

// Spec says which workspace image to build. The zero value plus
// [Spec.FillDefaults] is the default image, but for its SourceDateEpoch.
type Spec struct {
	Suite           string   `json:"suite"`              // Debian suite, one of Suites
	Platforms       []string `json:"platforms"`          // OCI platforms, of Platforms
	Base            string   `json:"base,omitempty"`     // reference of a Debian image to start from; empty: our own
	SourceDateEpoch int64    `json:"sourceDateEpoch"`    // seconds since 1970: every time in a layer that is built is this or earlier
	Version         string   `json:"version"`            // for the labels
	Revision        string   `json:"revision,omitempty"` // commit of the definition, for the labels
}

// FillDefaults sets what was left empty. Platform is that of the host.
func (s *Spec) FillDefaults(platform string) {
	if s.Suite == "" {
		s.Suite = "trixie"
	}
	if len(s.Platforms) == 0 {
		s.Platforms = []string{platform}
	}
}

// Validate reports every fault of the Spec at once, each as a sentence that
// says what would be accepted.
func (s Spec) Validate() error {
	var faults []error
	if !slices.Contains(Suites, s.Suite) {
		faults = append(faults, fmt.Errorf("SUITE %q is not supported: use one of %s", s.Suite, strings.Join(Suites, ", ")))
	}
	if len(s.Platforms) == 0 {
		faults = append(faults, fmt.Errorf("no platform is asked for: use some of %s", strings.Join(Platforms, ", ")))
	}

	seen := map[string]bool{}
	for _, p := range s.Platforms {
		if !slices.Contains(Platforms, p) {
			faults = append(faults, fmt.Errorf("platform %q is not supported: use some of %s", p, strings.Join(Platforms, ", ")))
		} else if seen[p] {
			faults = append(faults, fmt.Errorf("platform %s is named twice", p))
		}
		seen[p] = true
	}

	if s.SourceDateEpoch <= 0 {
		faults = append(faults, errors.New("SOURCE_DATE_EPOCH is not set: give seconds since 1970, such as the commit's `git log -1 --format=%ct`"))
	}
	return errors.Join(faults...)
}

// Name is the stem of every file built for the Spec: it ends in the
// architecture, or in "multi" when there are several.
func (s Spec) Name() string {
	suffix := "multi"
	if len(s.Platforms) == 1 {
		suffix = Architecture(s.Platforms[0])
	}
	return "rockpool-workspace-" + s.Suite + "-" + suffix
}

// Digest is the SHA-256, in hexadecimal, of all that the Spec says.
func (s Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers have a form in JSON
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Reference is the name under which the image loads into a container engine.
func (s Spec) Reference() string { return "localhost/rockpool-workspace:" + s.Suite }

// Epoch is SourceDateEpoch as a time in UTC.
func (s Spec) Epoch() time.Time { return time.Unix(s.SourceDateEpoch, 0).UTC() }

// Labels are the image's, as NAME=value, by the names of the OCI image
// specification's annotations. base is the digest of the image it starts from.
func (s Spec) Labels(base string) []string {
	labels := []string{
		"org.opencontainers.image.title=Rockpool workspace",
		"org.opencontainers.image.description=Debian " + s.Suite + " with code-server",
		"org.opencontainers.image.version=" + s.Version,
		"org.opencontainers.image.source=" + Source,
		"org.opencontainers.image.created=" + s.Epoch().Format(time.RFC3339),
		"org.opencontainers.image.base.digest=" + base,
	}
	if s.Revision != "" {
		labels = append(labels, "org.opencontainers.image.revision="+s.Revision)
	}
	return labels
}

// Architecture is the second part of an OCI platform, which Debian and Go call
// the same.
func Architecture(platform string) string {
	_, arch, _ := strings.Cut(platform, "/")
	return arch
}

// Base is a root file system to start from.
type Base struct {
	Archive string `json:"archive"` // path of an uncompressed tar
	SHA256  string `json:"sha256"`  // of the archive, in hexadecimal
	Created int64  `json:"created"` // seconds since 1970
}

// Request is what the builder's process is asked to do, as JSON. Paths are
// absolute.
type Request struct {
	Spec       Spec            `json:"spec"`
	Bases      map[string]Base `json:"bases"`      // by platform; empty when Spec.Base is set
	Definition string          `json:"definition"` // directory of the Containerfile, the build's context
	// Contexts are directories by platform and by the names that the
	// Containerfile gives them.
	Contexts  map[string]map[string]string `json:"contexts"`
	PlainHTTP bool                         `json:"plainHTTP"` // the registry of Spec.Base has no TLS, or a certificate nobody knows
	Inputs    map[string]string            `json:"inputs"`    // digest of Definition and Contexts by platform: a layer's key
	Storage   string                       `json:"storage"`   // directory of layers, kept between builds
	Scratch   string                       `json:"scratch"`   // directory of one build's files, emptied before and removed after; also the process's TMPDIR
	Layout    string                       `json:"layout"`    // directory to write the OCI layout to
}

// Result is the builder's answer, as JSON.
type Result struct {
	Steps  int `json:"steps"`  // of the Containerfile, over all platforms
	Cached int `json:"cached"` // of them, those that ran no more
}
