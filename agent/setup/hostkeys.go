package setup

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/rockpool/rootvm/guest"
)

const hostKeyName = "ssh_host_ed25519_key"

// ensureHostKeys keeps the VM's identity on the data disk, so that a rebuilt
// image is the same machine to an SSH client, and puts it where sshd looks.
// Ed25519 alone: every client of the last ten years knows it, and making an
// RSA key takes seconds under emulation.
func (s *Setup) ensureHostKeys(context.Context) (string, error) {
	kept := guest.DataDir + "/ssh/" + hostKeyName
	if s.dataErr != nil {
		kept = "/etc/ssh/" + hostKeyName
	}
	did := "kept"
	private, public, err := s.loadHostKey(kept)
	if err != nil {
		did = "made"
		if !errors.Is(err, os.ErrNotExist) {
			s.Log.Info("host key is not readable, making a new one", "err", err)
		}
		if private, public, err = s.makeHostKey(); err != nil {
			return "", err
		}
		if err := s.replace(kept, private, 0o600, 0, 0); err != nil {
			return "", err
		}
	}
	if err := s.replaceIfChanged(kept+".pub", public, 0o644, 0, 0); err != nil {
		return "", err
	}
	if err := s.replaceIfChanged("/etc/ssh/"+hostKeyName, private, 0o600, 0, 0); err != nil {
		return "", err
	}
	return did, s.replaceIfChanged("/etc/ssh/"+hostKeyName+".pub", public, 0o644, 0, 0)
}

// loadHostKey returns the private key file as it is and the public one that
// belongs to it.
func (s *Setup) loadHostKey(path string) (private, public []byte, err error) {
	private, err = readRegular(s.path(path), 1<<16)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("parse host key: %w", err)
	}
	return private, ssh.MarshalAuthorizedKey(signer.PublicKey()), nil
}

func (s *Setup) makeHostKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(s.Random)
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, nil, fmt.Errorf("encode host key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("encode host key: %w", err)
	}
	return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(sshPub), nil
}
