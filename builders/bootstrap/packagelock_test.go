package bootstrap

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/provision"
)

const header = "Format: 1\nSuite: trixie\nArchitecture: amd64\nSet: test\nDate: 2026-01-02T03:04:05Z\nInclude: hello\n"

const hello = `
Package: hello
Version: 1:2.10-3
Architecture: amd64
Depends: libc6 (>= 2.14),
 base-files
Filename: pool/main/h/hello/hello_2.10-3_amd64.deb
Size: 5
SHA256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
`

func TestParsePackageLock(t *testing.T) {
	l, err := ParsePackageLock(strings.NewReader(header + hello))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if want := header + hello; b.String() != want {
		t.Errorf("written again:\n%s\nwant:\n%s", b.String(), want)
	}
	p := l.Packages()
	if len(p) != 1 || p[0].Name != "hello" || p[0].Version != "1:2.10-3" || p[0].Size != 5 {
		t.Errorf("packages %+v", p)
	}
	if index := string(l.index()); !strings.Contains(index, "Filename: ./hello_1%3a2.10-3_amd64.deb\n") {
		t.Errorf("index of the flat repository:\n%s", index)
	}
}

func TestParsePackageLock_Faults(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"Empty":        {header + hello, "", "no header"},
		"OtherFormat":  {"Format: 1", "Format: 2", "make the lock again"},
		"NoDate":       {"Date: 2026-01-02T03:04:05Z\n", "", "date"},
		"ShortHash":    {"SHA256: 2c", "SHA256: ", "SHA256"},
		"UpperHash":    {"SHA256: 2cf", "SHA256: 2CF", "SHA256"},
		"NoSize":       {"Size: 5", "Size: 0", "Size"},
		"PathInName":   {"Package: hello", "Package: ../hello", "Package"},
		"PathEscapes":  {"pool/main/h/", "pool/../../", "Filename"},
		"Query":        {"amd64.deb", "amd64.deb?x=1", "Filename"},
		"Twice":        {hello, hello + hello, "twice"},
		"Continuation": {"Format: 1", " Format: 1", "line 1"},
		"NotAField":    {"Size: 5", "Size 5", "not a field"},
		"FieldTwice":   {"Size: 5", "Size: 5\nSize: 6", "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(header+hello, tc.old) {
				t.Fatalf("the case is out of date: %q", tc.old)
			}
			_, err := ParsePackageLock(strings.NewReader(strings.Replace(header+hello, tc.old, tc.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error that says %q", err, tc.want)
			}
		})
	}
}

func TestPackageLock_Digest(t *testing.T) {
	a, err := ParsePackageLock(strings.NewReader(header + hello))
	if err != nil {
		t.Fatal(err)
	}
	// What is no content does not matter; what is, does.
	b, err := ParsePackageLock(strings.NewReader("# comment\n" + header + "\n" + hello + "\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParsePackageLock(strings.NewReader(strings.Replace(header+hello, "2.10-3\nArch", "2.10-4\nArch", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() || a.Digest() == c.Digest() {
		t.Errorf("digests %s, %s, %s: want two alike and one other", a.Digest(), b.Digest(), c.Digest())
	}
}

// The committed locks must be complete, name no host and belong to the lists
// they were made from.
func TestPackageLock_Committed(t *testing.T) {
	for _, suite := range []string{"trixie", "bookworm"} {
		for _, arch := range []string{"amd64", "arm64"} {
			t.Run("rootvm/"+suite+"/"+arch, func(t *testing.T) {
				checkLock(t, suite, arch, "rootvm", provision.Packages(suite, arch))
			})
			t.Run("workspace/"+suite+"/"+arch, func(t *testing.T) {
				checkLock(t, suite, arch, "workspace", images.Packages(suite, arch))
			})
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run("tools/"+arch, func(t *testing.T) { checkLock(t, ToolsSuite, arch, "tools", ToolPackages(arch)) })
	}
}

func checkLock(t *testing.T, suite, arch, set string, include []string) {
	t.Helper()
	l, err := LoadPackageLock(suite, arch, set)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(l.Include, " "), strings.Join(include, " "); got != want {
		t.Errorf("was made for\n%s\nand the list is now\n%s\nrun `go tool mage rootvm:lock`", got, want)
	}

	there := map[string]bool{}
	for _, p := range l.Packages() {
		there[p.Name] = true
		if p.Architecture != arch && p.Architecture != "all" {
			t.Errorf("package %s is of architecture %s", p.Name, p.Architecture)
		}
	}

	for _, name := range include {
		if !there[name] {
			t.Errorf("package %s is not in the lock", name)
		}
	}

	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "://") {
		t.Error("the lock names a host")
	}
}

func TestPackageLock_Unknown(t *testing.T) {
	if _, err := LoadPackageLock("sarge", "amd64", "rootvm"); err == nil || !strings.Contains(err.Error(), "mage rootvm:lock") {
		t.Errorf("got %v, want an error that says how to make the lock", err)
	}
}

func FuzzParsePackageLock(f *testing.F) {
	f.Add([]byte(header + hello))
	f.Add([]byte("Format: 1\n\n\n a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParsePackageLock(bytes.NewReader(b))
		if err != nil {
			return
		}

		var once, twice bytes.Buffer
		if _, err := l.WriteTo(&once); err != nil {
			t.Fatal(err)
		}

		again, err := ParsePackageLock(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("what was written is not readable: %v\n%q", err, once.Bytes())
		}
		if _, err := again.WriteTo(&twice); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Errorf("%q becomes %q", once.Bytes(), twice.Bytes())
		}
	})
}
