package engine

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// observed is a store that reports its calls, the locks that they end and the renewals.
type observed struct {
	store.Store
	to observe.Observer
}

func (o *observed) called(operation observe.Operation, began time.Time, err *error) {
	o.to.StoreCalled(operation, *err, time.Since(began))
}

func (o *observed) ended(how store.How, locks ...store.Lock) {
	for i := range locks {
		o.to.LockEnded(how, max(time.Since(locks[i].CreatedAt), 0))
	}
}

func (o *observed) Create(ctx context.Context, in store.NewLock) (lock store.Lock, err error) {
	defer o.called(observe.Create, time.Now(), &err)
	return o.Store.Create(ctx, in)
}

func (o *observed) CreateAll(
	ctx context.Context, in []store.NewLock,
) (locks []store.Lock, err error) {
	defer o.called(observe.CreateAll, time.Now(), &err)
	return o.Store.CreateAll(ctx, in)
}

func (o *observed) Get(ctx context.Context, id string) (lock store.Lock, err error) {
	defer o.called(observe.Get, time.Now(), &err)
	return o.Store.Get(ctx, id)
}

func (o *observed) Holder(ctx context.Context, name string) (lock store.Lock, err error) {
	defer o.called(observe.Holder, time.Now(), &err)
	return o.Store.Holder(ctx, name)
}

func (o *observed) List(ctx context.Context) (locks []store.Lock, err error) {
	defer o.called(observe.List, time.Now(), &err)
	return o.Store.List(ctx)
}

func (o *observed) Update(
	ctx context.Context, id string, change store.Change,
) (lock store.Lock, err error) {
	defer o.called(observe.Update, time.Now(), &err)
	lock, err = o.Store.Update(ctx, id, change)
	if change.Lease != nil {
		o.to.RenewalEnded(err)
	}
	return lock, err
}

func (o *observed) Delete(
	ctx context.Context, id string, end store.Ending,
) (lock store.Lock, err error) {
	defer o.called(observe.Delete, time.Now(), &err)
	if lock, err = o.Store.Delete(ctx, id, end); err == nil {
		o.ended(end.Of(lock.Owner).How, lock)
	}
	return lock, err
}

func (o *observed) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (both store.Handover, err error) {
	defer o.called(observe.HandOver, time.Now(), &err)
	both, err = o.Store.HandOver(ctx, id, end, next)
	if err == nil && both.DeleteErr == nil {
		o.ended(end.Of(both.Deleted.Owner).How, both.Deleted)
	}
	return both, err
}

func (o *observed) Claim(
	ctx context.Context, owner, mark string,
) (claim uint64, locks []store.Lock, err error) {
	defer o.called(observe.Claim, time.Now(), &err)
	return o.Store.Claim(ctx, owner, mark)
}

func (o *observed) Cancel(
	ctx context.Context, owner, mark string,
) (locks []store.Lock, err error) {
	defer o.called(observe.Cancel, time.Now(), &err)
	locks, err = o.Store.Cancel(ctx, owner, mark)
	o.ended(store.Cancelled, locks...)
	return locks, err
}

func (o *observed) Sweep(
	ctx context.Context, limits store.Limits,
) (swept store.Swept, err error) {
	defer o.called(observe.Sweep, time.Now(), &err)
	swept, err = o.Store.Sweep(ctx, limits)
	o.ended(store.Expired, swept.Locks...)
	return swept, err
}

func (o *observed) History(
	ctx context.Context, q store.HistoryQuery,
) (found []store.Ended, err error) {
	defer o.called(observe.History, time.Now(), &err)
	return o.Store.History(ctx, q)
}

func (o *observed) Ping(ctx context.Context) (err error) {
	defer o.called(observe.Ping, time.Now(), &err)
	return o.Store.Ping(ctx)
}
