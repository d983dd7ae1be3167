package spdx

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestDocument_Write(t *testing.T) {
	d := Document{
		Name: "image", Version: "sha256:0", Namespace: "https://example.org/spdx/0", Tool: "tool-1", Created: time.Unix(0, 0), Comment: "Not all.",
		Packages: []Package{
			{URL: DebianURL("libc++", "1:2~3", "amd64", "trixie"), Name: "libc++", Version: "1:2~3", SHA256: "00", Supplier: "Debian"},
			{URL: NPMURL("@scope/name", "1.0.0"), Name: "@scope/name", Version: "1.0.0", SHA512: []byte{1, 2}, License: "MIT"},
			{URL: NPMURL("part", "2.0.0"), Name: "part", Version: "2.0.0"},
		},
	}

	var got bytes.Buffer
	if err := d.Write(&got); err != nil {
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
