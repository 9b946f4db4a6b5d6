package api

import (
	"log/slog"
	"time"
)

const envTrust = "RELUKKO_TRUST_ME_IT_IS_LOCKED"

// trust sets the result that every call has in trust mode.
func (k *call) trust() {
	epoch := time.Unix(0, 0).UTC()
	k.lock = Lock{
		ID: "00000000-0000-0000-0000-000000000000", Name: "WE TRUST YOU",
		Creator: "Dummy Dummy", IP: "0.0.0.0",
		ExpiresAt: epoch, CreatedAt: epoch, UpdatedAt: epoch,
	}
	k.list = []Lock{k.lock}
	if k.report != nil {
		_ = k.report([]byte("[]"))
	}
}

// warnTrust logs a warning that nothing is locked.
func warnTrust(log *slog.Logger, base string) {
	if log == nil {
		log = slog.Default()
	}
	log.Warn("relukko: "+envTrust+" is set: NOTHING IS LOCKED, no request is made",
		"base_url", base)
}
