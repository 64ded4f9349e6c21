package keychain

// playSecurity plays security(1), which is macOS's alone.
func playSecurity() {}
