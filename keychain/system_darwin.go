package keychain

// systemStores are the keychain and pass.
func systemStores() map[string]func() keyStore {
	return map[string]func() keyStore{BackendKeychain: newAppleKeychain, BackendPass: newPass}
}

func probeOrder() []string { return []string{BackendKeychain} }
