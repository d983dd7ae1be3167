package vm

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

// ensureKey makes the instance's SSH key pair once and returns the public key
// as a line of authorized_keys(5). The private key never leaves the host.
func ensureKey(inst Instance) (string, error) {
	b, err := os.ReadFile(inst.Path(keyFile))
	if errors.Is(err, os.ErrNotExist) {
		if b, err = newKey(inst.Config.Name); err == nil {
			err = replaceFile(inst.Path(keyFile), b)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make the instance's SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return "", fmt.Errorf("read the instance's SSH key: %w: remove %s, the next start makes another", err, inst.Path(keyFile))
	}
	line := string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	return line[:len(line)-1] + " " + inst.Config.Name + "\n", nil
}

func newKey(comment string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
