// Package release signs a directory of files and checks what came out of one: the
// list SHA256SUMS names every file, and SHA256SUMS.sig signs the list, as
// `ssh-keygen -Y sign` does. It asks nothing of the network, imports the builders
// package and owns no state.
package release

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/rockpool/rootvm/builders"
)

const (
	// Sums is the list of digests, in the format of sha256sum(1).
	Sums = "SHA256SUMS"
	// Signature is the signature of the list, in the armor of OpenSSH's
	// PROTOCOL.sshsig.
	Signature = Sums + ".sig"
	// Namespace is what a signature is for: one that the same key made for
	// something else, such as a commit, is none of a release.
	Namespace = "rockpool-release"
)

// Sign writes the list of all files in the directory dir, and its signature by
// the private key, in OpenSSH's format.
func Sign(dir string, key []byte) error {
	signer, err := parsePrivateKey(key)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := WriteSums(dir); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, Sums))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signature, err := sshsig.Sign(bytes.NewReader(list), signer, sshsig.HashSHA512, Namespace)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return builders.WriteFile(filepath.Join(dir, Signature), sshsig.Armor(signature))
}

func parsePrivateKey(key []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(key)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("the key has a passphrase: give one without, or sign with `ssh-keygen -Y sign -n %s -f KEY %s`", Namespace, Sums)
	}
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read (%w): make one with `ssh-keygen -t ed25519 -N '' -f KEY`", err)
	}
	return signer, nil
}

// PublicKey is the line of the public key that belongs to a private one.
func PublicKey(key []byte) (string, error) {
	signer, err := parsePrivateKey(key)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

// WriteSums writes the list of all files in dir.
func WriteSums(dir string) error {
	var list bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if name = filepath.ToSlash(name); name == Sums || name == Signature {
			return nil
		}
		if !d.Type().IsRegular() || strings.ContainsAny(name, "\n\\") {
			return fmt.Errorf("%q is no file of a release", name)
		}
		a, err := builders.Describe(path, "")
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s  %s\n", a.SHA256, name)
		return nil
	})
	if err != nil {
		return err
	}
	return builders.WriteFile(filepath.Join(dir, Sums), list.Bytes())
}

// Checked is what [Check] found to be signed.
type Checked struct {
	Files int
	Key   string // fingerprint
}

// Check compares the file or directory at path with the signed list of its
// release, which lies beside it or in a directory above. keys are public keys as
// in authorized_keys(5); one of them has to have signed. Its error is one line.
func Check(ctx context.Context, path string, keys []byte) (Checked, error) {
	known, err := parseKeys(keys)
	if err != nil {
		return Checked{}, err
	}
	dir, within, err := find(path)
	if err != nil {
		return Checked{}, err
	}
	list, err := os.ReadFile(filepath.Join(dir, Sums))
	if err != nil {
		return Checked{}, fmt.Errorf("the release cannot be checked: %w", err)
	}
	checked := Checked{}
	if checked.Key, err = checkSignature(dir, list, known); err != nil {
		return Checked{}, err
	}

	sums, err := parseSums(list)
	if err != nil {
		return Checked{}, err
	}
	for _, s := range sums {
		if err := ctx.Err(); err != nil {
			return Checked{}, context.Cause(ctx)
		}
		if within != "." && s.name != within && !strings.HasPrefix(s.name, within+"/") {
			continue
		}
		if err := s.check(dir); err != nil {
			return Checked{}, err
		}
		checked.Files++
	}
	if checked.Files == 0 {
		return Checked{}, fmt.Errorf("%s is no file of the release: %s does not name it", within, filepath.Join(dir, Sums))
	}
	return checked, checkNothingElse(dir, within, sums)
}

// find finds the directory of the release that path is in, and path in it.
func find(path string) (dir, within string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", "", fmt.Errorf("nothing to check: %w", err)
	}
	dir = path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, Sums)); err == nil {
			within, err = filepath.Rel(dir, path)
			return dir, filepath.ToSlash(within), err
		}
		if dir == filepath.Dir(dir) {
			return "", "", fmt.Errorf("%s has no %s beside it: download it, and %s, from where the file is from", path, Sums, Signature)
		}
		dir = filepath.Dir(dir)
	}
}

// parseKeys reads public keys, one a line.
func parseKeys(keys []byte) ([]ssh.PublicKey, error) {
	var all []ssh.PublicKey
	for rest := keys; len(bytes.TrimSpace(rest)) > 0; {
		key, _, _, left, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			return nil, errors.New("the public key cannot be read: give the .pub file of an OpenSSH key")
		}
		all, rest = append(all, key), left
	}
	if len(all) == 0 {
		return nil, errors.New("no public key is known to check with: give one with --key FILE")
	}
	return all, nil
}

// checkSignature returns the fingerprint of the key that signed the list.
func checkSignature(dir string, list []byte, known []ssh.PublicKey) (string, error) {
	armored, err := os.ReadFile(filepath.Join(dir, Signature))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the release is not signed: it has no %s", Signature)
	}
	if err != nil {
		return "", err
	}
	signature, err := sshsig.Unarmor(armored)
	if err != nil {
		return "", fmt.Errorf("%s is no signature: %s", Signature, oneLine(err))
	}
	signed := func(key ssh.PublicKey) bool { return bytes.Equal(key.Marshal(), signature.PublicKey.Marshal()) }
	i := slices.IndexFunc(known, signed)
	fingerprint := ssh.FingerprintSHA256(signature.PublicKey)
	if i < 0 {
		return "", fmt.Errorf("the release is signed by an unknown key, %s", fingerprint)
	}
	if signature.Namespace != Namespace {
		return "", fmt.Errorf("the signature is for %q, not for %q", signature.Namespace, Namespace)
	}
	if err := sshsig.Verify(bytes.NewReader(list), signature, known[i], signature.HashAlgorithm, Namespace); err != nil {
		return "", fmt.Errorf("%s is not what %s signed: %s", Sums, fingerprint, oneLine(err))
	}
	return fingerprint, nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }

// sum is a line of the list.
type sum struct{ sha256, name string }

// parseSums reads the list. Names lead nowhere else, and none is there twice.
func parseSums(list []byte) ([]sum, error) {
	var all []sum
	seen := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		digest, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		b, err := hex.DecodeString(digest)
		if !ok || err != nil || len(b) != 32 || !filepath.IsLocal(filepath.FromSlash(name)) || seen[name] {
			return nil, fmt.Errorf("%s has the line %q, which is none of a release", Sums, strings.TrimSpace(line))
		}
		seen[name] = true
		all = append(all, sum{digest, name})
	}
	return all, nil
}

// check compares a file of the directory with the line.
func (s sum) check(dir string) error {
	got, err := builders.Describe(filepath.Join(dir, filepath.FromSlash(s.name)), "")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s is missing, though the release has it", s.name)
	case err != nil:
		return err
	case got.SHA256 != s.sha256:
		return fmt.Errorf("%s is not what was signed: its %d bytes have the SHA-256 %s instead of %s", s.name, got.Size, got.SHA256, s.sha256)
	}
	return nil
}

// checkNothingElse finds a file that nobody signed.
func checkNothingElse(dir, within string, sums []sum) error {
	named := map[string]bool{Sums: true, Signature: true}
	for _, s := range sums {
		named[s.name] = true
	}
	root := filepath.Join(dir, filepath.FromSlash(within))
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && !named[filepath.ToSlash(name)] {
			err = fmt.Errorf("%s is not signed: %s does not name it", name, Sums)
		}
		return err
	})
}
