package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/oci"
)

// Manifest is the record of a build of the workspace image, beside it in dist/.
// All but Steps is a function of the inputs.
type Manifest struct {
	Name            string              `json:"name"`
	Suite           string              `json:"suite"`
	Base            string              `json:"base,omitempty"` // a reference; empty: our own
	SourceDateEpoch int64               `json:"sourceDateEpoch"`
	Revision        string              `json:"revision,omitempty"` // of the definition
	InputDigest     string              `json:"inputDigest"`
	Reference       string              `json:"reference"` // the name it loads under
	Digest          string              `json:"digest"`    // of the image, or of the index when there are several
	Layout          string              `json:"layout"`    // name of the OCI layout's directory, beside the manifest
	Images          []Image             `json:"images"`
	Artifacts       []builders.Artifact `json:"artifacts"`
	Steps           []builders.Step     `json:"steps"`
}

// Image is the image of one platform.
type Image struct {
	Platform       string `json:"platform"`
	Digest         string `json:"digest"`
	CompressedSize int64  `json:"compressedSize"` // of all layers, bytes
	LockDigest     string `json:"lockDigest"`     // of the Debian packages
}

// path is a file of the finished image.
func (b *build) path(suffix string) string {
	return filepath.Join(b.Dist, b.spec.Name()+suffix)
}

func (b *build) layout() oci.Layout { return oci.Layout{Dir: b.path("")} }

// manifest returns the manifest in dist/ when it is of the same inputs and what
// it names is there.
func (b *build) manifest() (Manifest, bool) {
	var m Manifest
	text, err := os.ReadFile(b.path(".manifest.json"))
	if err != nil || json.Unmarshal(text, &m) != nil || m.InputDigest != b.inputs {
		return m, false
	}
	for _, a := range m.Artifacts {
		if st, err := os.Stat(filepath.Join(b.Dist, a.File)); err != nil || st.Size() != a.Size {
			return m, false
		}
	}
	digest, err := b.layout().Digest()
	return m, err == nil && digest == m.Digest
}

// upToDate says that nothing is to be done, and what is not known: whether the
// name of a base that is not ours still stands for the same image.
func (b *build) upToDate() string {
	said := b.spec.Name() + " is up to date: nothing that goes into it has changed"
	if b.spec.Base != "" && !strings.Contains(b.spec.Base, "@sha256:") {
		said += fmt.Sprintf("; of BASE only the name %s was compared: `FORCE=1 go tool mage workspace:image` takes what it stands for now", b.spec.Base)
	}
	return said
}

// record writes the bills of materials, and the manifest last.
func (b *build) record(ctx context.Context, steps []builders.Step) (Manifest, error) {
	m := Manifest{
		Name: b.spec.Name(), Suite: b.spec.Suite, Base: b.spec.Base, SourceDateEpoch: b.spec.SourceDateEpoch, Revision: b.spec.Revision,
		InputDigest: b.inputs, Reference: b.spec.Reference(), Layout: filepath.Base(b.path("")), Steps: steps,
	}
	var err error
	if m.Digest, err = b.layout().Digest(); err != nil {
		return m, err
	}

	for _, platform := range b.spec.Platforms {
		img, err := b.layout().Image(images.Architecture(platform))
		if err != nil {
			return m, err
		}
		record := Image{Platform: platform, Digest: img.Digest, LockDigest: b.packages[platform].Digest()}
		for _, l := range img.Layers {
			record.CompressedSize += l.Size
		}
		m.Images = append(m.Images, record)
		bill, err := b.writeBill(ctx, platform, img.Digest)
		if err != nil {
			return m, fmt.Errorf("bill of materials: %w", err)
		}
		m.Artifacts = append(m.Artifacts, bill)
	}

	archive, err := builders.Describe(b.path(".oci.tar"), "oci-archive")
	if err != nil {
		return m, err
	}
	m.Artifacts = append(m.Artifacts, archive)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, builders.WriteFile(b.path(".manifest.json"), append(text, '\n'))
}
