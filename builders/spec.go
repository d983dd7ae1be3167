// Package builders holds the nouns of an image build: what is asked for
// ([Spec]), what comes out ([Artifact]) and the record of how it came to be
// ([Manifest]). The directories below it each do one part of the work. It
// imports nothing of this project and owns no state.
package builders

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Version and Prerelease are those of the whole product: the plugin, the agent
// and the image. Packer installs a prerelease by path only if it is "dev".
const (
	Version    = "0.1.0"
	Prerelease = "dev"
)

// Values a [Spec] may take.
var (
	Suites        = []string{"trixie", "bookworm"}
	Architectures = []string{"amd64", "arm64"}
	Formats       = []string{"qcow2", "raw", TartFormat}
)

const (
	// TartFormat is a VM for Tart on a Mac. In a manifest it is the format of the
	// files of its directory, and TartArtifactFormat that of its OCI artifact's.
	TartFormat         = "tart"
	TartArtifactFormat = "tart-oci"
	// TartArchitecture is the only one that Macs run at full speed, and Tart at
	// all.
	TartArchitecture = "arm64"
)

// Sizes in bytes.
const (
	MiB = int64(1) << 20
	GiB = int64(1) << 30

	// DefaultDiskSize is the virtual size of the built disk. The image is
	// sparse and the guest grows its root to whatever disk it is given.
	DefaultDiskSize = 4 * GiB
	// MinDiskSize leaves room for the system and its first logs.
	MinDiskSize = 3 * GiB
	// MaxDiskSize keeps the ext4 metadata of an image that grows on the
	// host's disk, not in the build, within reason.
	MaxDiskSize = 2048 * GiB

	// BuildSpace is what a build that begins with nothing wants free: measured,
	// 6.4 GiB stay in the cache and 1.5 in dist/; the rest is there for a while.
	BuildSpace = 10 * GiB
)

// Spec says which Root VM image to build. The zero value plus [Spec.FillDefaults]
// is the default image.
//
// It is the one list of the image's settings: the Packer plugin's configuration
// embeds it, the template gets it as one variable, and [Spec.Digest] decides
// whether an image is current. A new field needs a line in [Spec.Bind] too, and
// lines in the template and in the README.
type Spec struct {
	Suite           string   `json:"suite" mapstructure:"suite" required:"true"`                         // Debian suite, one of Suites
	Architecture    string   `json:"architecture" mapstructure:"architecture" required:"true"`           // Debian architecture, one of Architectures
	Formats         []string `json:"formats" mapstructure:"formats"`                                     // disk formats to write, of Formats
	DiskSize        int64    `json:"disk_size" mapstructure:"disk_size"`                                 // virtual size of the disk in bytes, a multiple of 1 MiB
	SourceDateEpoch int64    `json:"source_date_epoch" mapstructure:"source_date_epoch" required:"true"` // seconds since 1970: every time in the image is this or earlier
}

// Settings takes note of what a user may set: the environment's variable, what it
// means, and where its value goes. What is not set keeps its value.
type Settings interface {
	Text(env, usage string, value *string)
	Words(env, usage string, value *[]string) // parted by commas or spaces
	Size(env, usage string, value *int64)     // bytes, such as of "4G"
	Number(env, usage string, value *int64)   // above 0
}

// Bind names every field to the settings.
func (s *Spec) Bind(settings Settings) {
	settings.Text("SUITE", "Debian suite of the image", &s.Suite)
	settings.Text("ARCH", "Debian architecture of the image", &s.Architecture)
	settings.Words("FORMATS", "disk formats to build", &s.Formats)
	settings.Size("DISK_SIZE", "virtual size of the built disk", &s.DiskSize)
	settings.Number("SOURCE_DATE_EPOCH", "latest time in the image, seconds since 1970", &s.SourceDateEpoch)
}

// FillDefaults sets what was left empty.
func (s *Spec) FillDefaults() {
	if s.Suite == "" {
		s.Suite = "trixie"
	}
	if s.Architecture == "" {
		s.Architecture = "amd64"
	}
	if len(s.Formats) == 0 {
		s.Formats = []string{"qcow2"}
	}
	if s.DiskSize == 0 {
		s.DiskSize = DefaultDiskSize
	}
}

// Validate reports every fault of the Spec at once, each as a sentence that
// says what would be accepted.
func (s Spec) Validate() error {
	var faults []error
	if !slices.Contains(Suites, s.Suite) {
		faults = append(faults, fmt.Errorf("SUITE %q is not supported: use one of %s", s.Suite, strings.Join(Suites, ", ")))
	}
	if !slices.Contains(Architectures, s.Architecture) {
		faults = append(faults, fmt.Errorf("ARCH %q is not supported: use one of %s", s.Architecture, strings.Join(Architectures, ", ")))
	}
	for _, f := range s.Formats {
		if !slices.Contains(Formats, f) {
			faults = append(faults, fmt.Errorf("FORMATS contains %q: use a comma-separated list of %s", f, strings.Join(Formats, ", ")))
		}
	}

	if slices.Contains(s.Formats, TartFormat) && s.Architecture != TartArchitecture {
		faults = append(faults, fmt.Errorf("FORMATS contains %q, which is for %s alone: set ARCH=%s, or leave it out", TartFormat, TartArchitecture, TartArchitecture))
	}

	if s.DiskSize < MinDiskSize || s.DiskSize > MaxDiskSize || s.DiskSize%MiB != 0 {
		faults = append(faults, fmt.Errorf("DISK_SIZE of %d bytes is out of range: use %dG to %dG, in whole MiB", s.DiskSize, MinDiskSize/GiB, MaxDiskSize/GiB))
	}
	if s.SourceDateEpoch <= 0 {
		faults = append(faults, errors.New("SOURCE_DATE_EPOCH is not set: give seconds since 1970, such as the commit's `git log -1 --format=%ct`"))
	}

	return errors.Join(faults...)
}

// Name is the stem of every file built for the Spec.
func (s Spec) Name() string { return "rockpool-root-" + s.Suite + "-" + s.Architecture }

// Epoch is SourceDateEpoch as a time in UTC.
func (s Spec) Epoch() time.Time { return time.Unix(s.SourceDateEpoch, 0).UTC() }

// Digest is the SHA-256, in hexadecimal, of all that the Spec says.
func (s Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers have a form in JSON
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// UUID derives a stable identifier (RFC 9562 version 5) for one role, such as
// "root" or "esp", from what the image is. Builds of one suite and
// architecture share it, so that a bootloader built for one finds the other.
func (s Spec) UUID(role string) string {
	namespace := []byte{0x6f, 0x1c, 0x8a, 0x52, 0x0d, 0x5b, 0x4d, 0x0e, 0x9a, 0x55, 0x5e, 0x1d, 0x2c, 0x90, 0x7b, 0x31}
	sum := sha1.Sum(append(namespace, s.Name()+"/"+role...))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
