package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file that pages use, under a name that changes with its content.
type asset struct {
	kind       string
	plain, gzd []byte
}

// Assets by the name in their address, and those names by the file's.
var (
	assets     = map[string]asset{}
	assetNames = loadAssets(assets)
)

var assetKinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// loadAssets fills byName. The files are part of the program: a fault here is
// the programmer's.
func loadAssets(byName map[string]asset) map[string]string {
	names := map[string]string{}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		content, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		byName[name] = asset{kind: assetKinds[ext], plain: content, gzd: compress(content)}
		names[e.Name()] = name
	}
	return names
}

func compress(content []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(content)
	_ = z.Close() // a Buffer takes everything
	return b.Bytes()
}

// asset serves a file that never changes under its name.
func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	a, ok := assets[name]
	if !ok {
		return agent.Errorf(agent.CodeNotFound, "There is no file at this address.")
	}

	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", `"`+name+`"`)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if r.Header.Get("If-None-Match") == `"`+name+`"` {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}

	content := a.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		content = a.gzd
	}
	h.Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content)
	return nil
}
