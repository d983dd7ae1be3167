package release

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newKey makes a key as ssh-keygen does.
func newKey(t *testing.T, passphrase string) (private, public []byte) {
	t.Helper()
	key, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(secret, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(secret, "test", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	public1, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(public1)
}

// signed is a release of a few files.
func signed(t *testing.T, key []byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"image.qcow2": "a disk", "image.manifest.json": "{}", "image.tart/disk.img": "another", "rockpool-linux-amd64": "a program"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sign(dir, key); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheck(t *testing.T) {
	private, public := newKey(t, "")
	dir := signed(t, private)
	_, older := newKey(t, "")
	for path, files := range map[string]int{"": 4, "image.qcow2": 1, "image.tart": 1, "image.tart/disk.img": 1} {
		checked, err := Check(t.Context(), filepath.Join(dir, path), append(older, public...))
		if err != nil || checked.Files != files || !strings.HasPrefix(checked.Key, "SHA256:") {
			t.Errorf("%q: %+v, %v, want %d files", path, checked, err, files)
		}
	}
	if line, err := PublicKey(private); err != nil || line != strings.TrimSpace(string(public)) {
		t.Errorf("public key %q, %v", line, err)
	}
}

// TestCheck_Refused: what is not what was signed is refused, with one line.
func TestCheck_Refused(t *testing.T) {
	private, public := newKey(t, "")
	other, otherPublic := newKey(t, "")
	write := func(dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(dir, name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	for name, c := range map[string]struct {
		spoil func(dir string)
		path  string
		keys  []byte
		want  string
	}{
		"truncated":        {func(dir string) { write(dir, "image.qcow2", "a d") }, "image.qcow2", public, "image.qcow2 is not what was signed: its 3 bytes have"},
		"truncated, whole": {func(dir string) { write(dir, "image.qcow2", "a d") }, "", public, "image.qcow2 is not what was signed"},
		"swapped": {func(dir string) {
			write(dir, "image.qcow2", "another")
			write(dir, "image.tart/disk.img", "a disk")
		}, "", public, "image.qcow2 is not what was signed"},
		"missing":        {func(dir string) { os.Remove(filepath.Join(dir, "image.qcow2")) }, "", public, "image.qcow2 is missing"},
		"not signed":     {func(dir string) { write(dir, "more", "x") }, "", public, "more is not signed"},
		"no file of it":  {func(dir string) { write(dir, "more", "x") }, "more", public, "more is no file of the release"},
		"another list":   {func(dir string) { write(dir, Sums, strings.Replace(read(dir, Sums), "image.qcow2", "image.qcow3", 1)) }, "", public, "SHA256SUMS is not what SHA256:"},
		"signed anew":    {func(dir string) { write(dir, "image.qcow2", "x"); Sign(dir, other) }, "", public, "signed by an unknown key, SHA256:"},
		"another key":    {func(string) {}, "", otherPublic, "signed by an unknown key, SHA256:"},
		"no signature":   {func(dir string) { os.Remove(filepath.Join(dir, Signature)) }, "", public, "the release is not signed: it has no SHA256SUMS.sig"},
		"no armor":       {func(dir string) { write(dir, Signature, "-----BEGIN SSH SIGNATURE-----\nAAAA\n") }, "", public, "SHA256SUMS.sig is no signature"},
		"signature of b": {func(dir string) { write(dir, Signature, read(signed(t, private), Signature)); write(dir, Sums, read(dir, Sums)+"\n") }, "", public, "SHA256SUMS is not what SHA256:"},
		"no list":        {func(dir string) { os.Remove(filepath.Join(dir, Sums)) }, "", public, "has no SHA256SUMS beside it"},
		"no key":         {func(string) {}, "", nil, "give one with --key FILE"},
		"bad key":        {func(string) {}, "", []byte("ssh-ed25519 AAAA"), "the public key cannot be read"},
	} {
		dir := signed(t, private)
		c.spoil(dir)
		_, err := Check(t.Context(), filepath.Join(dir, c.path), c.keys)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want …%s… in one line", name, err, c.want)
		}
	}
}

func TestSign_Keys(t *testing.T) {
	locked, _ := newKey(t, "secret")
	for name, c := range map[string]struct {
		key  []byte
		want string
	}{
		"passphrase": {locked, "the key has a passphrase: give one without, or sign with `ssh-keygen -Y sign"},
		"none":       {[]byte("no key"), "make one with `ssh-keygen -t ed25519"},
	} {
		if err := Sign(t.TempDir(), c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSign_OpenSSH: OpenSSH's own program takes our signatures, and we take its.
func TestSign_OpenSSH(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not installed: apt install openssh-client")
	}
	private, public := newKey(t, "")
	dir, keys := signed(t, private), t.TempDir()
	allowed, key := filepath.Join(keys, "allowed"), filepath.Join(keys, "key")
	if err := os.WriteFile(allowed, append([]byte("release "), public...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, private, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, Sums))
	if err != nil {
		t.Fatal(err)
	}

	verify := exec.Command(keygen, "-Y", "verify", "-f", allowed, "-I", "release", "-n", Namespace, "-s", filepath.Join(dir, Signature))
	verify.Stdin = bytes.NewReader(list)
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen does not take our signature: %v: %s", err, out)
	}
	for namespace, want := range map[string]string{Namespace: "", "git": `the signature is for "git"`} {
		if err := os.Remove(filepath.Join(dir, Signature)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(keygen, "-Y", "sign", "-n", namespace, "-f", key, filepath.Join(dir, Sums)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		_, err := Check(t.Context(), dir, public)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("for %s: %v", namespace, err)
		}
	}
}

func FuzzCheckSignature(f *testing.F) {
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"), []byte(strings.Repeat("0", 64)+"  a\n"))
	f.Fuzz(func(t *testing.T, signature, list []byte) {
		_, public := newKey(t, "")
		dir := t.TempDir()
		for name, content := range map[string][]byte{Sums: list, Signature: signature} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Check(t.Context(), dir, public); err == nil {
			t.Error("was taken")
		}
		_, _ = parseSums(list)
	})
}
