package controlplane

import "testing"

func TestCloneTarget(t *testing.T) {
	for _, tt := range []struct{ repository, base, url, folder string }{
		{"", "https://github.com", "", ""},
		{"owner/repo", "https://github.com", "https://github.com/owner/repo.git", "/home/admin/repo"},
		{"owner/repo.js", "http://127.0.0.1:9/git/", "http://127.0.0.1:9/git/owner/repo.js.git", "/home/admin/repo.js"},
		{"https://git.example/a/b/c.git", "", "https://git.example/a/b/c.git", "/home/admin/c"},
		{"https://git.example/a/", "", "https://git.example/a/", "/home/admin/a"},
		{"owner/.config", "https://github.com", "https://github.com/owner/.config.git", "/home/admin/config"},
		{"https://git.example/a/%2e%2e", "", "https://git.example/a/%2e%2e", "/home/admin/repository"},
		{"https://git.example/a/-x", "", "https://git.example/a/-x", "/home/admin/repository"},
		{"https://git.example/a/b%2Fc", "", "https://git.example/a/b%2Fc", "/home/admin/c"},
	} {
		if url, folder := cloneTarget(tt.repository, tt.base); url != tt.url || folder != tt.folder {
			t.Errorf("%s: %s in %s, want %s in %s", tt.repository, url, folder, tt.url, tt.folder)
		}
	}
}
