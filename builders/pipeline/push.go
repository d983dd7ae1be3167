package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/host/settings"
)

// Push copies the image's Tart artifact in dist/ to a registry, and checks all of
// it before. Arguments: REFERENCE [--plain-http].
func (p *Pipeline) Push(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("rootvm:push", pflag.ContinueOnError)
	flags.SetOutput(p.Out)
	settings.List{
		{Flag: "plain-http", Usage: "the registry has no TLS, or a certificate nobody knows", Value: settings.Bool(&p.PlainHTTP)},
	}.Bind(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() != 1:
		return errors.New("rootvm:push needs one reference, such as registry.example/rockpool/root:trixie")
	}

	layout, err := p.tartArtifact()
	if err != nil {
		return err
	}
	p.printLine("==> Push %s to %s", layout, flags.Arg(0))
	if err := p.Workspaces().PushLayout(ctx, layout, flags.Arg(0), "--tart"); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	p.printLine("pushed %s", flags.Arg(0))
	return nil
}

// tartArtifact is the layout in dist/ of the Spec's suite: there is one of one
// architecture only, so ARCH need not be set.
func (p *Pipeline) tartArtifact() (string, error) {
	of := *p
	of.Spec.Architecture = builders.TartArchitecture
	m, err := builders.ReadManifest(of.dist(".manifest.json"))
	_, ok := m.Artifact(builders.TartArtifactFormat)
	if err != nil || !ok {
		return "", fmt.Errorf("dist has no Tart artifact of %s: make it with `SUITE=%s ARCH=%s FORMATS=%s go tool mage rootvm:build`",
			of.Spec.Name(), of.Spec.Suite, of.Spec.Architecture, builders.TartFormat)
	}
	if unsettled(m) {
		return "", fmt.Errorf("a build that put %s into dist was cut off: end it with `ARCH=%s go tool mage rootvm:build`", of.Spec.Name(), of.Spec.Architecture)
	}
	return of.dist(".tart.oci"), nil
}
