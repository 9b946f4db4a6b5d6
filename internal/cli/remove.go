package cli

import (
	"context"
	"errors"

	"gitlab.com/relukko/relukko-go/api"
)

// remove deletes a lock. That it is gone after an attempt with an unknown outcome
// means that this attempt deleted it.
func remove(ctx context.Context, c *api.Client, id string, opts ...api.CallOption) error {
	_, err := c.Delete(ctx, id, opts...)
	answer, ok := errors.AsType[*api.Error](err)
	if ok && errors.Is(answer, api.ErrGone) && answer.MaybeDone {
		return nil
	}
	return err
}
