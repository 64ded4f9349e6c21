package keychain

import "github.com/99designs/keyring"

func systemStores() map[string]func() keyStore {
	return map[string]func() keyStore{BackendWinCred: func() keyStore { return ring{kind: keyring.WinCredBackend, patience: answerTime} }}
}

func probeOrder() []string { return []string{BackendWinCred} }
