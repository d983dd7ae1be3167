package tart

import (
	"strings"
	"testing"

	"github.com/rockpool/rootvm/vm"
)

func TestRunOptions_Args(t *testing.T) {
	plain := RunOptions{VM: "one", Serial: "/i/serial.pty", DataDisk: "/i/data.raw", ConfigDisk: "/i/config.iso"}
	const common = "run one --no-graphics --no-audio --serial-path=/i/serial.pty "
	for name, c := range map[string]struct {
		change func(*RunOptions)
		want   string
	}{
		"plain":     {func(*RunOptions) {}, "--disk=/i/data.raw:caching=cached --disk=/i/config.iso:ro"},
		"no data":   {func(o *RunOptions) { o.DataDisk = "" }, "--disk=/i/config.iso:ro"},
		"automount": {func(o *RunOptions) { o.ShareDir, o.Share = "/src", vm.ShareAutomount }, "--disk=/i/data.raw:caching=cached --disk=/i/config.iso:ro --dir=rockpool:/src"},
		"direct":    {func(o *RunOptions) { o.ShareDir, o.Share = "/src", vm.ShareDirect }, "--disk=/i/data.raw:caching=cached --disk=/i/config.iso:ro --dir=/src:tag=rockpool"},
		"softnet":   {func(o *RunOptions) { o.Softnet = true }, "--disk=/i/data.raw:caching=cached --disk=/i/config.iso:ro --net-softnet"},
		"for a LAN": {func(o *RunOptions) { o.Softnet, o.SoftnetExpose = true, "8080:8080" }, "--disk=/i/data.raw:caching=cached --disk=/i/config.iso:ro --net-softnet --net-softnet-allow=0.0.0.0/0 --net-softnet-expose=8080:8080"},
	} {
		o := plain
		c.change(&o)
		if got := strings.Join(o.Args(), " "); got != common+c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, common+c.want)
		}
	}
}
