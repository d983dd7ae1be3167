package provenance

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func sum(c string) string { return strings.Repeat(c, 64) }

func sample() (builders.Manifest, Build) {
	m := builders.Manifest{
		Name: "image", LockDigest: sum("1"), InputDigest: sum("2"), Tools: map[string]string{"qemu-img": "10.0", "mke2fs": "1.47.2"},
		Artifacts: []builders.Artifact{{File: "image.qcow2", Format: "qcow2", SHA256: sum("a")}, {File: "image.tart/disk.img", Format: "tart", SHA256: sum("b")}},
	}
	spec := builders.Spec{SourceDateEpoch: 1760000000}
	spec.FillDefaults()
	return m, Build{
		Source: "https://source.example/rockpool", Commit: strings.Repeat("c", 40), Version: "0.1.0", Spec: spec,
		Dependencies: []Dependency{{PackageLock, sum("1")}, {Inputs, sum("2")}, {"npm lock", sum("3")}},
	}
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "statement.json")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNew(t *testing.T) {
	m, b := sample()
	content, err := New(m, b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := New(m, b)
	if err != nil || !bytes.Equal(content, again) {
		t.Errorf("two statements on one image differ: %v", err)
	}

	var statement struct {
		Type      string `json:"_type"`
		Subject   []struct{ Name string }
		Predicate struct {
			BuildDefinition struct {
				ExternalParameters   struct{ Spec builders.Spec }
				ResolvedDependencies []struct {
					Name, URI string
					Digest    map[string]string
				}
			}
			RunDetails struct {
				Builder struct{ Version map[string]string }
			}
		}
	}
	if err := json.Unmarshal(content, &statement); err != nil {
		t.Fatal(err)
	}
	definition := statement.Predicate.BuildDefinition
	if statement.Type != "https://in-toto.io/Statement/v1" || len(statement.Subject) != 2 || definition.ExternalParameters.Spec.Digest() != b.Spec.Digest() {
		t.Errorf("statement %s", content)
	}
	source := definition.ResolvedDependencies[0]
	if source.URI != "git+https://source.example/rockpool" || source.Digest["gitCommit"] != b.Commit || len(definition.ResolvedDependencies) != 4 {
		t.Errorf("dependencies %+v", definition.ResolvedDependencies)
	}
	if versions := statement.Predicate.RunDetails.Builder.Version; versions["qemu-img"] != "10.0" || versions["rockpool"] != "0.1.0" {
		t.Errorf("versions %v", versions)
	}

	// The statement is no subject of itself.
	m.SetArtifacts(builders.Artifact{File: "image" + Suffix, Format: Format, SHA256: sum("d")})
	if err := Check(write(t, content), m); err != nil {
		t.Error(err)
	}
}

func TestCheck_Faults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *builders.Manifest)
		want   string
	}{
		"another disk": {func(m *builders.Manifest) { m.Artifacts[0].SHA256 = sum("f") }, "it is of another image.qcow2"},
		"a file more":  {func(m *builders.Manifest) { m.SetArtifacts(builders.Artifact{File: "x", SHA256: sum("f")}) }, "it says nothing of x"},
		"a file less":  {func(m *builders.Manifest) { m.Artifacts = m.Artifacts[1:] }, "it is also of image.qcow2"},
		"another lock": {func(m *builders.Manifest) { m.LockDigest = sum("f") }, "its package lock is 1111"},
		"other inputs": {func(m *builders.Manifest) { m.InputDigest = sum("f") }, "its inputs is 2222"},
	} {
		m, b := sample()
		content, err := New(m, b)
		if err != nil {
			t.Fatal(err)
		}
		c.change(&m)
		if err := Check(write(t, content), m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}

	m, b := sample()
	b.Dependencies = b.Dependencies[2:]
	content, err := New(m, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(write(t, content), m); err == nil || !strings.Contains(err.Error(), "it does not name the inputs") {
		t.Errorf("without dependencies: %v", err)
	}
	for _, content := range []string{"", "{}", `{"_type":"https://in-toto.io/Statement/v1"}`, strings.Replace(string(content), predicateType, "https://other.example", 1)} {
		if err := Check(write(t, []byte(content)), m); err == nil {
			t.Errorf("%.80q is taken for a statement", content)
		}
	}
}

func FuzzCheck(f *testing.F) {
	m, b := sample()
	content, err := New(m, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		_ = Check(write(t, content), m) // does not panic
	})
}
