package qemu

import (
	"strings"
	"testing"

	"github.com/rockpool/rootvm/vm"
)

// TestDriver_share_sandbox: that virtiofsd runs without its sandbox is said, with
// the reason and what to do about it.
func TestDriver_share_sandbox(t *testing.T) {
	t.Parallel()
	const waits = `echo "[INFO  virtiofsd] Waiting for vhost-user socket connection..." >&2; exec sleep 600`
	for name, tt := range map[string]struct {
		program string
		kind    string
		note    []string // empty: none
	}{
		"sandboxed": {waits, vm.ShareVirtiofs, nil},
		"loose": {`case "$*" in *namespace*) echo "[x ERROR virtiofsd] Error entering sandbox: no namespaces" >&2; exit 1;; esac; ` + waits,
			vm.ShareVirtiofs, []string{"without its sandbox", "no namespaces", "SHARE=9p"}},
		"not at all": {`echo "[x ERROR virtiofsd] broken" >&2; exit 1`, vm.Share9P, []string{"sharing by 9p", "broken"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &Driver{Programs: Programs{Virtiofsd: []string{"sh", "-c", tt.program, "virtiofsd"}}}
			inst := vm.Instance{Config: vm.Config{ShareDir: t.TempDir()}}
			kind, _, note, err := d.share(t.Context(), inst)
			if err != nil || kind != tt.kind {
				t.Fatalf("%q, %v, want %q", kind, err, tt.kind)
			}
			if len(tt.note) == 0 && note != "" {
				t.Errorf("note %q", note)
			}
			for _, s := range tt.note {
				if !strings.Contains(note, s) {
					t.Errorf("note %q does not say %q", note, s)
				}
			}
		})
	}
}
