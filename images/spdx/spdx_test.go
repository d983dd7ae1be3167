package spdx

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/rockpool/rootvm/images"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestWrite(t *testing.T) {
	d := images.Bill{
		Name: "image", Version: "sha256:0", Purpose: "CONTAINER", Namespace: "https://example.org/spdx/0", Tool: "tool-1", Created: time.Unix(0, 0), Comment: "Not all.",
		Packages: []images.Package{
			{URL: images.DebianURL("libc++", "1:2~3", "amd64", "trixie"), Name: "libc++", Version: "1:2~3", SHA256: "00", Supplier: "Debian"},
			{URL: images.NPMURL("@scope/name", "1.0.0"), Name: "@scope/name", Version: "1.0.0", SHA512: []byte{1, 2}, License: "MIT"},
			{URL: images.NPMURL("part", "2.0.0"), Name: "part", Version: "2.0.0"},
		},
	}

	var got bytes.Buffer
	if err := Write(&got, d); err != nil {
		t.Fatal(err)
	}

	const golden = "testdata/document.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the document differs from %s:\n%s", golden, got.Bytes())
	}
}
