package storage_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// otherImage is the digest of an image that is added.
var otherImage = "sha256:" + strings.Repeat("b", 64)

// pack makes an archive of files with contents.
func pack(t testing.TB, members ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range members {
		content := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Size, h.Linkname = int64(len(content)), ""
		}
		h.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file is a member of an archive.
func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Linkname: content}
}

// imageArchive is that of a small image.
func imageArchive(t testing.TB) []byte {
	capable := file("./usr/bin/ping", "ping")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(capabilities(0)), "SCHILY.xattr.trusted.overlay.opaque": "y"}
	capable.Mode = 0o755
	owned := file("home/admin/.profile", "added\n")
	owned.Uid, owned.Gid = 1000, 1000
	strange := file("strange", "")
	strange.Uid, strange.Gid = 1e9, 70000
	return pack(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o750},
		file("etc/passwd", "added\n"), file("etc/.wh.shadow", "no whiteout"),
		tar.Header{Typeflag: tar.TypeDir, Name: "home/admin", Mode: 0o700, Uid: 1000, Gid: 1000}, owned, strange, capable,
		tar.Header{Typeflag: tar.TypeLink, Name: "usr/bin/ping4", Linkname: "usr/bin/ping"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "/usr/bin"},
		file("bin/through", "through a link"),
		tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600},
	)
}

// TestPool_AddImage adds an image, which files then are opened on, and moves files
// to it and back.
func TestPool_AddImage(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	ctx := t.Context()
	for range 2 {
		if err := p.AddImage(ctx, otherImage, bytes.NewReader(imageArchive(t))); err != nil {
			t.Fatal(err)
		}
	}
	in := p.Dir + "/pool/images/" + strings.Replace(otherImage, ":", "-", 1)
	for name, want := range map[string]string{
		"etc/passwd": "added\n", "etc/.wh.shadow": "no whiteout", "usr/bin/through": "through a link", "usr/bin/ping4": "ping",
	} {
		if got := read(t, in+"/"+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(in+"/dev/null", &st); err != nil || st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("dev/null: %o, %d, %v", st.Mode, st.Rdev, err)
	}
	if err := unix.Lstat(in+"/etc", &st); err != nil || st.Mode != unix.S_IFDIR|0o750 || st.Mtim.Sec != 1e9 {
		t.Errorf("etc: %o of %d, %v", st.Mode, st.Mtim.Sec, err)
	}
	if uid, gid := owner(t, in+"/strange"); uid != 65534 || gid != 65534 {
		t.Errorf("ids that no container has became %d:%d", uid, gid)
	}
	value := make([]byte, 100)
	if n, err := unix.Lgetxattr(in+"/usr/bin/ping", "security.capability", value); err != nil || n != 20 {
		t.Errorf("capabilities: %d, %v", n, err)
	}
	if _, err := unix.Lgetxattr(in+"/usr/bin/ping", "trusted.overlay.opaque", value); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a mark of overlays was taken over: %v", err)
	}
	if err := os.WriteFile(in+"/etc/passwd", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("an image can be written: %v", err)
	}

	f := files(1, giga)
	view := open(t, p, f)
	if out, err := as(t, 1, 0, view.Root, "echo x >layer"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := as(t, 1, 1000, view.Home, "echo x >kept"); err != nil {
		t.Fatal(err, out)
	}
	if err := p.ChangeImage(ctx, f.ID, otherImage); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("change the image of open files: %v", err)
	}
	closeFiles(t, p, f.ID)
	if err := p.ChangeImage(ctx, f.ID, "sha256:"+strings.Repeat("c", 64)); agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("change to no image: %v", err)
	}
	if err := p.ChangeImage(ctx, testID(7), otherImage); agent.ErrorCode(err) != agent.CodeNotFound {
		t.Errorf("change the image of nothing: %v", err)
	}
	for range 2 {
		if err := p.ChangeImage(ctx, f.ID, otherImage); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.RemoveImage(ctx, otherImage); agent.ErrorCode(err) != agent.CodeConflict {
		t.Errorf("remove an image that is needed: %v", err)
	}
	f.Image = otherImage
	open(t, p, f)
	if got := read(t, view.Root+"/etc/passwd"); got != "added\n" {
		t.Errorf("passwd: %q", got)
	}
	if _, err := os.Lstat(view.Root + "/layer"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the own layer of the other image: %v", err)
	}
	if got := read(t, view.Home+"/kept"); got != "x\n" {
		t.Errorf("kept: %q", got)
	}
	u, err := p.Usage(ctx)
	if err != nil || len(u.Images) != 1 || u.Images[0].Digest != otherImage || u.Images[0].Size == 0 || len(u.Files) != 1 || u.Files[0].Files != f {
		t.Errorf("usage %+v, %v", u, err)
	}
	closeFiles(t, p, f.ID)
	if err := p.ChangeImage(ctx, f.ID, ownImage); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.RemoveImage(ctx, otherImage); err != nil {
			t.Fatal(err)
		}
	}
	if u, err := p.Usage(ctx); err != nil || len(u.Images) != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// TestPool_KeepImage opens files when the VM has another image than theirs.
func TestPool_KeepImage(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	f := files(1, giga)
	view := open(t, p, f)
	if err := os.Link(p.Image+"/rootfs/etc/passwd", p.Image+"/rootfs/etc/passwd-"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.KeepImage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	unmountBelow(t, p.Dir)
	write(t, p.Image+"/digest", otherImage+"\n")
	write(t, p.Image+"/rootfs/etc/passwd", "another image's")
	open(t, p, f)
	if got := read(t, view.Root+"/etc/passwd-"); !strings.HasPrefix(got, "root:") {
		t.Errorf("passwd: %q", got)
	}
	want := describe(t, p.Dir+"/pool/images/"+strings.Replace(ownImage, ":", "-", 1), func(*described) {})
	if !strings.HasSuffix(want["etc/passwd"], "with 2 names, one etc/passwd") {
		t.Errorf("passwd is %s", want["etc/passwd"])
	}
}

// cut is an archive that ends with an error.
type cut struct{ io.Reader }

func (c cut) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// TestPool_AddImage_fails leaves nothing of what is not a whole archive, and makes
// nothing outside.
func TestPool_AddImage_fails(t *testing.T) {
	p, data := newPool(t, 4*giga)
	outside := data + "/outside"
	write(t, outside, "safe")
	whole := imageArchive(t)
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	for name, tt := range map[string]struct {
		archive io.Reader
		fails   bool
	}{
		"cut in a file":         {cut{bytes.NewReader(whole[:len(whole)/2])}, true},
		"cut between files":     {cut{bytes.NewReader(whole[:1024])}, true},
		"cut before its end":    {cut{bytes.NewReader(whole[:len(whole)-1024])}, true},
		"no archive":            {strings.NewReader(strings.Repeat("no archive ", 100)), true},
		"dots":                  {bytes.NewReader(pack(t, file("../../../../outside", "x"), file("a/../../outside", "x"))), false},
		"absolute":              {bytes.NewReader(pack(t, file(outside, "x"))), false},
		"link to a directory":   {bytes.NewReader(pack(t, link("a", data), file("a/outside", "x"))), true},
		"link up":               {bytes.NewReader(pack(t, link("a", "../../../.."), file("a/outside", "x"))), false},
		"link to a file":        {bytes.NewReader(pack(t, link("a", outside), file("a", "x"))), false},
		"chain of links":        {bytes.NewReader(pack(t, link("a", "b"), link("b", data), file("a/outside", "x"))), true},
		"hard link outside":     {bytes.NewReader(pack(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: outside}, file("a", "x"))), true},
		"hard link by a link":   {bytes.NewReader(pack(t, link("b", data), tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b/outside"}, file("a", "x"))), true},
		"directory over a link": {bytes.NewReader(pack(t, link("a", data), tar.Header{Typeflag: tar.TypeDir, Name: "a", Mode: 0o777}, file("a/outside", "x"))), false},
	} {
		digest := "sha256:" + strings.Repeat("d", 64)
		err := p.AddImage(t.Context(), digest, tt.archive)
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", name, err)
		}
		if got := read(t, outside); got != "safe" {
			t.Fatalf("%s: a file outside is %q", name, got)
		}
		if st, err := os.Lstat(data); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: the directory outside: %v, %v", name, st.Mode(), err)
		}
		u, err := p.Usage(t.Context())
		if err != nil || (len(u.Images) == 0) != tt.fails {
			t.Errorf("%s: images %v, %v", name, u.Images, err)
		}
		if err := p.RemoveImage(t.Context(), digest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(p.Dir + "/pool/staging"); err != nil || len(left) != 0 {
			t.Errorf("%s: left in staging: %v, %v", name, left, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.AddImage(ctx, otherImage, bytes.NewReader(whole)); err == nil {
		t.Error("added for who had gone")
	}
}
