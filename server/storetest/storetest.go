// Package storetest has the tests that every [store.Store] passes:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return memstore.New() })
//	}
package storetest

import (
	"testing"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Run tests the stores that newStore makes. Each test calls it once; it returns an empty store
// that t.Cleanup closes, and may call t.Parallel. The tests depend on no particular clock.
func Run(t *testing.T, newStore func(t *testing.T) store.Store) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, tested{newStore(t), t}) })
	}
}

var tests = []struct {
	name string
	run  func(t *testing.T, s tested)
}{
	{"CreateReturnsTheLock", createReturnsTheLock},
	{"ANameHasOneLock", aNameHasOneLock},
	{"OneOfManyCreatesWins", oneOfManyCreatesWins},
	{"CreateAllMakesAll", createAllMakesAll},
	{"CreateAllMakesNone", createAllMakesNone},
	{"CreateAllAtOnce", createAllAtOnce},
	{"NamesAreExact", namesAreExact},
	{"ReadTwiceIsEqual", readTwiceIsEqual},
	{"GoneIsGone", goneIsGone},
	{"UpdateChangesWhatItIsAskedTo", updateChangesWhatItIsAskedTo},
	{"ALeaseCountsFromUpdatedAt", aLeaseCountsFromUpdatedAt},
	{"ABoundCapsTheExpiry", aBoundCapsTheExpiry},
	{"TimesStayInRange", timesStayInRange},
	{"DeleteReturnsTheLockAsItWas", deleteReturnsTheLockAsItWas},
	{"OneOfManyDeletesWins", oneOfManyDeletesWins},
	{"FencingTokensRise", fencingTokensRise},
	{"ListIsOldestFirst", listIsOldestFirst},
	{"SweepTakesWhatExpiredLongEnoughAgo", sweepTakesWhatExpiredLongEnoughAgo},
	{"SweepSaysWhenToComeAgain", sweepSaysWhenToComeAgain},
	{"SweepTakesAllInTheEnd", sweepTakesAllInTheEnd},
	{"ALeasedLockHasItsOwnGrace", aLeasedLockHasItsOwnGrace},
	{"TheLeaseSetLastCounts", theLeaseSetLastCounts},
	{"ARenewalKeepsItLeased", aRenewalKeepsItLeased},
	{"NothingLeasedIsSweptAfterAStep", nothingLeasedIsSweptAfterAStep},
	{"ALeaseInThePastNeedsNoStep", aLeaseInThePastNeedsNoStep},
	{"CancelDeletesAndRefuses", cancelDeletesAndRefuses},
	{"ACancelledClaimIsCancelled", aCancelledClaimIsCancelled},
	{"MarksBelongToTheirOwners", marksBelongToTheirOwners},
	{"ClaimsRiseAndFindLocks", claimsRiseAndFindLocks},
	{"AnOlderClaimIsRefused", anOlderClaimIsRefused},
	{"ClaimAndFirstCreateAtOnce",
		func(t *testing.T, s tested) { claimAndCreateAtOnce(t, s, false, false) }},
	{"ClaimAndCreateAtOnce",
		func(t *testing.T, s tested) { claimAndCreateAtOnce(t, s, true, false) }},
	{"ClaimAndHandOverAtOnce",
		func(t *testing.T, s tested) { claimAndCreateAtOnce(t, s, false, true) }},
	{"CancelAndCreateAtOnce", cancelAndCreateAtOnce},
	{"TheStoreOutlivesItsCallers", theStoreOutlivesItsCallers},
	{"PingReturns", pingReturns},
	{"HandOverDeletesAndCreates", handOverDeletesAndCreates},
	{"HandOverALockThatIsGone", handOverOfALockThatIsGone},
	{"HandOverACancelledHead", handOverToACancelledMark},
	{"HandOverAskedForTwice", handOverAskedForTwice},
	{"HandOverTwoRace", twoHandOversRace},
	{"HandOverNobodyComesBetween", nobodyComesBetween},
	{"HandOverAndSweepAtOnce", handOverAndSweepAtOnce},
	{"HandOverAndDeleteAtOnce", handOverAndDeleteAtOnce},
	{"HandOverAndCancelOfTheNextAtOnce",
		func(t *testing.T, s tested) { handOverAndCancelAtOnce(t, s, false, true) }},
	{"HandOverAndCancelOfTheLastAtOnce",
		func(t *testing.T, s tested) { handOverAndCancelAtOnce(t, s, true, false) }},
	{"HandOverAndCancelOfBothAtOnce",
		func(t *testing.T, s tested) { handOverAndCancelAtOnce(t, s, true, true) }},
	{"HandOverIsNoNewsToWhoDidIt", handOverIsNoNews},
	{"TheHistoryHasEachEnd", theHistoryHasEachEnd},
	{"TheHistoryIsSelected", theHistoryIsSelected},
	{"WhatDidNotEndHasNoEntry", whatDidNotEndHasNoEntry},
	{"AStoreKeepsNothingUnlessAsked", aStoreKeepsNothingUnlessAsked},
	{"TheHistoryIsPruned", theHistoryIsPruned},
}
