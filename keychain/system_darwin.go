package keychain

import (
	"slices"

	"github.com/99designs/keyring"
)

// systemStores are the keychain, where this build was made with cgo, and pass. macOS itself may
// ask a person before it gives the key out, and does not say so: hence personTime.
func systemStores() map[string]func() keyStore {
	stores := map[string]func() keyStore{BackendPass: newPass}
	if slices.Contains(keyring.AvailableBackends(), keyring.KeychainBackend) {
		stores[BackendKeychain] = func() keyStore { return ring{kind: keyring.KeychainBackend, patience: personTime} }
	}
	return stores
}

func probeOrder() []string { return []string{BackendKeychain} }
