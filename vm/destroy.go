package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Destroy stops the instance and removes everything of it, the data disk too.
// What its driver made is removed by that driver, which it remembers; when this
// program does not know it, nothing is removed. The caller has asked.
func (h Host) Destroy(ctx context.Context, name string) error {
	dir, err := h.dir(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	inst, err := loadInstance(dir)
	if err != nil { // never started, or damaged: what is known is the name
		inst.Config.Name = name
	}
	driver, err := h.Drivers.saved(inst)
	if err != nil && !errors.Is(err, errNoDriver) {
		return fmt.Errorf("destroy %s: nothing was removed: %w", name, err)
	}

	if _, err := h.Stop(ctx, name, StopOptions{Force: true}, nil); err != nil {
		return err
	}
	lock, err := lockOperation(ctx, dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := h.clearAway(ctx, inst); err != nil {
		return err
	}

	if driver != nil {
		if err := driver.Destroy(ctx, inst); err != nil {
			return fmt.Errorf("destroy %s: %w", name, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("destroy %s: %w", name, err)
	}
	return nil
}
