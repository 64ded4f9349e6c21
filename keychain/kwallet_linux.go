package keychain

import (
	"errors"

	"github.com/godbus/dbus"

	"sega/keychain/secret"
)

// kwallet keeps keys as passwords in the folder "sega" of KDE's network wallet, over the D-Bus
// interface org.kde.KWallet of kwalletd6 or kwalletd5.
type kwallet struct{ desktop desktop }

const (
	walletIface = "org.kde.KWallet."
	walletApp   = "sega"
)

// openWallet is a wallet that is open for us.
type openWallet struct {
	*bus
	name   string // of the daemon
	path   dbus.ObjectPath
	handle int32
}

func (k kwallet) open() (*openWallet, error) {
	b, err := k.desktop.dial()
	if err != nil {
		return nil, err
	}
	for _, daemon := range []string{"kwalletd6", "kwalletd5"} {
		w := &openWallet{bus: b, name: "org.kde." + daemon, path: dbus.ObjectPath("/modules/" + daemon)}
		var enabled bool
		err = w.wallet("isEnabled", nil, &enabled)
		if err == nil && !enabled {
			err = errors.New("KWallet is switched off")
		}
		if err == nil {
			err = w.unlock()
		}
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, errAbsent) {
			break
		}
	}
	b.close()
	return nil, err
}

func (w *openWallet) wallet(method string, args []any, results ...any) error {
	return w.call(w.name, w.path, walletIface+method, args, results...)
}

// unlock opens the wallet; the daemon asks a person where it is closed, and where it is open and the
// person wants to be asked about programs.
func (w *openWallet) unlock() error {
	var name string
	var isOpen bool
	if err := w.wallet("networkWallet", nil, &name); err != nil {
		return err
	}
	if err := w.wallet("isOpen", []any{name}, &isOpen); err != nil {
		return err
	}
	open := func() error { return w.wallet("open", []any{name, int64(0), walletApp}, &w.handle) }
	var err error
	switch {
	case w.desktop.person:
		err = w.ask(open)
	case isOpen:
		err = open()
	default:
		err = errLocked
	}
	if err != nil {
		return err
	}
	if w.handle < 0 {
		return errDismissed
	}
	return nil
}

func (k kwallet) quiet() keyStore {
	k.desktop.person = false
	return k
}

func (k kwallet) load(item string) (secret.Secret, error) {
	w, err := k.open()
	if err != nil {
		return secret.Secret{}, err
	}
	defer w.close()
	var text string
	if err := w.wallet("readPassword", []any{w.handle, walletApp, item, walletApp}, &text); err != nil {
		return secret.Secret{}, err
	}
	if text == "" {
		return secret.Secret{}, errNoItem
	}
	return parseKey(text)
}

func (k kwallet) save(item string, key secret.Secret) error {
	w, err := k.open()
	if err != nil {
		return err
	}
	defer w.close()
	var code int32
	if err := w.wallet("writePassword", []any{w.handle, walletApp, item, formatKey(key), walletApp}, &code); err != nil {
		return err
	}
	if code != 0 {
		return errors.New("KWallet does not take the key")
	}
	return nil
}
