package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/oci/ocitest"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		says  string
	}{
		{"nothing", nil, "", 2, "usage: workspace-image build"},
		{"unknown", []string{"x"}, "", 2, "usage"},
		{"no request", []string{"build"}, "", 1, "read the request"},
		{"unknown field", []string{"build"}, `{"specs":{}}`, 1, "unknown field"},
		{"no bill", []string{"bill"}, "", 1, "read the request"},
		{"not a bill", []string{"bill"}, `{"spec":{}}`, 1, "unknown field"},
		{"rootfs of nothing", []string{"rootfs", t.TempDir(), "amd64", "/w", "f.tar"}, "", 1, "layout "},
		{"faults", []string{"build"}, `{"spec":{"suite":"sid","platforms":["linux/s390x"]}}`, 1, "linux/s390x"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(c.stdin), &out, &err)
		if code != c.code || !strings.Contains(err.String(), c.says) || out.Len() > 0 {
			t.Errorf("%s: code %d, want %d; said %q", c.name, code, c.code, err.String())
		}
	}
}

func TestRun_Rootfs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.tar")
	args := []string{"rootfs", ocitest.Layout(t, "amd64", "arm64"), "arm64", "/w", file}
	var said bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &said, &said); code != 0 {
		t.Fatalf("code %d, said %q", code, said.String())
	}
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(b, []byte("./w/rootfs/")) || !bytes.Contains(b, []byte(`"architecture":"arm64"`)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestRun_Bill: what the pipeline sends arrives.
func TestRun_Bill(t *testing.T) {
	bill := images.Bill{Name: "image", Version: "sha256:0", Tool: "tool-1", Packages: []images.Package{{URL: images.NPMURL("part", "1.0.0"), Name: "part", Version: "1.0.0", SHA512: []byte{1, 2}}}}
	request, err := json.Marshal(bill)
	if err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	if code := run(t.Context(), []string{"bill"}, bytes.NewReader(request), &out, &said); code != 0 {
		t.Fatalf("code %d, said %q", code, said.String())
	}
	for _, want := range []string{`"SPDX-2.3"`, `"pkg:npm/part@1.0.0"`, `"0102"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the bill lacks %s:\n%s", want, out.String())
		}
	}
}
