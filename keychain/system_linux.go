package keychain

// systemStores are the stores that a Linux desktop may have.
func systemStores() map[string]func() keyStore {
	return map[string]func() keyStore{
		BackendSecretService: func() keyStore { return secretService{desktop: thisDesktop()} },
		BackendKWallet:       func() keyStore { return kwallet{desktop: thisDesktop()} },
		BackendPass:          newPass,
	}
}

func probeOrder() []string { return []string{BackendSecretService, BackendKWallet} }
