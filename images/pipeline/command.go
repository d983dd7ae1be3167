package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/host/settings"
)

// Command makes the workspace image into dist/, lists its files, and pushes it
// when it is told where. Arguments: [--platform list] [--push reference]
// [--plain-http].
func (p *Pipeline) Command(ctx context.Context, args []string) error {
	var reference string
	flags := pflag.NewFlagSet("workspace:image", pflag.ContinueOnError)
	flags.SetOutput(p.Out)
	settings.List{
		{Flag: "platform", Usage: "platforms to build, such as linux/amd64,linux/arm64", Value: settings.Words(&p.Spec.Platforms)},
		{Flag: "push", Usage: "reference to push to, such as registry.example/rockpool/workspace:trixie", Value: settings.Text(&reference)},
		{Flag: "plain-http", Usage: "the registry to push to, and that of BASE, have no TLS, or a certificate nobody knows", Value: settings.Bool(&p.PlainHTTP)},
	}.Bind(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("workspace:image does not know %q", flags.Arg(0))
	}

	m, err := p.Build(ctx)
	if err != nil {
		return err
	}
	for _, artifact := range m.Artifacts {
		p.printLine("  %-44s %8.1f MB", filepath.Join(filepath.Base(p.Dist), artifact.File), float64(artifact.Size)/1e6)
	}
	if reference == "" {
		return nil
	}
	p.printLine("==> Push to %s", reference)
	if err := p.Push(ctx, m, reference); err != nil {
		return err
	}
	p.printLine("pushed %s", m.Digest)
	return nil
}
