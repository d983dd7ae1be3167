package pipeline

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/release"
)

func TestNotesOf(t *testing.T) {
	const changelog = "# Changelog\n\n## Unreleased\n\n- new\n\n## 1.2.0 (2026-11-28)\n\n- a\n- b\n\n## 1.1.0\n\n- old\n\n## 1.0.0\n\n"
	for version, want := range map[string]string{
		"1.2.0": "# Rockpool Root VM 1.2.0 (2026-11-28)\n\n- a\n- b\n",
		"1.1.0": "# Rockpool Root VM 1.1.0\n\n- old\n",
		"1.0.0": "", "1.2": "", "2": "",
	} {
		got, err := notesOf(changelog, version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("notes of %s: %q, %v, want %q", version, got, err, want)
		}
	}
}

// tagged makes of the pipeline's source a checkout with a tag.
func tagged(t *testing.T, p *Pipeline, tag string) func(args ...string) {
	t.Helper()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", p.Source, "-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	changelog := "# Changelog\n\n## " + builders.Version + "\n\n- first\n"
	if err := os.WriteFile(filepath.Join(p.Source, "CHANGELOG.md"), []byte(changelog), 0o644); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	git("add", "CHANGELOG.md")
	git("commit", "-q", "-m", "first")
	git("tag", tag)
	return git
}

// TestReleasing_Prepare: what would be wrong is said before anything is built.
func TestReleasing_Prepare(t *testing.T) {
	p, _ := pipeline(t)
	git := tagged(t, p, "v"+builders.Version)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	prepare := func(version, key string) error {
		r := releasing{Pipeline: p, version: version}
		return r.prepare(t.Context(), key)
	}
	expect := func(err error, want string) {
		t.Helper()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want …%s…", err, want)
		}
	}

	expect(prepare(builders.Version, ""), "")
	expect(prepare("9.9.9", ""), "the version of this checkout is "+builders.Version)
	expect(prepare(builders.Version, key), "make one with `ssh-keygen")
	expect(prepare(builders.Version, key+"2"), "no such file")

	untracked := filepath.Join(p.Source, "untracked")
	if err := os.WriteFile(untracked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(prepare(builders.Version, ""), "the checkout differs from the tag v"+builders.Version+": ?? untracked")
	git("add", "untracked")
	git("commit", "-q", "-m", "second")
	expect(prepare(builders.Version, ""), "the checkout is of ")
	git("tag", "-d", "v"+builders.Version)
	expect(prepare(builders.Version, ""), "there is no tag v"+builders.Version)
}

// TestReleasing_Assemble is a release of small files: everything is there, named
// and signed, and a second one takes its place.
func TestReleasing_Assemble(t *testing.T) {
	p, _ := pipeline(t)
	p.WorkspaceImage.Suite = p.Spec.Suite
	p.WorkspaceImage.FillDefaults("linux/" + p.Spec.Architecture)
	if _, err := p.promote(finished(t, p, "x"), nil, origin{}); err != nil {
		t.Fatal(err)
	}
	workspace := filepath.Join(p.Dist, p.WorkspaceImage.Name())
	if err := os.WriteFile(workspace+".oci.tar", []byte("an archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := builders.Describe(workspace+".oci.tar", "oci-archive")
	if err != nil {
		t.Fatal(err)
	}
	m, err := json.Marshal(map[string]any{"name": p.WorkspaceImage.Name(), "artifacts": []builders.Artifact{a}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(workspace+".manifest.json", m, 0o644); err != nil {
		t.Fatal(err)
	}
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}

	p.Source = "../.."
	r := releasing{Pipeline: p, version: "1.2.3", key: pem.EncodeToMemory(block), notes: "notes\n"}
	if r.stamp, err = release.PublicKey(r.key); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.assemble(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(p.Dist, "release", "1.2.3")
	checked, err := release.Check(t.Context(), dir, ssh.MarshalAuthorizedKey(line))
	if err != nil || checked.Files != 6+1+2+1+3 {
		t.Errorf("%+v, %v", checked, err)
	}
	left, err := filepath.Glob(filepath.Join(p.Dist, "release", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("dist/release has %v, %v", left, err)
	}

	// The released program knows the key by itself.
	program := filepath.Join(dir, "rockpool-linux-amd64")
	if out, err := exec.Command(program, "verify", filepath.Join(dir, p.Spec.Name()+".qcow2")).CombinedOutput(); err != nil || !strings.Contains(string(out), "signed: 1 file") {
		t.Errorf("rockpool verify: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "NOTES.md"), []byte("other notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "verify", dir).CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "NOTES.md is not what was signed") {
		t.Errorf("rockpool verify of other notes: %v: %s", err, out)
	}

	r.key, r.stamp = nil, ""
	if err := r.assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := release.Check(t.Context(), dir, ssh.MarshalAuthorizedKey(line)); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("without a key: %v", err)
	}
}
