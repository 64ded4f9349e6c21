package keychain

import (
	"errors"
	"time"

	"github.com/godbus/dbus"

	"sega/keychain/secret"
)

// Names of the Secret Service API 0.2 (specifications.freedesktop.org/secret-service).
const (
	secretsName    = "org.freedesktop.secrets"
	secretsPath    = dbus.ObjectPath("/org/freedesktop/secrets")
	serviceIface   = "org.freedesktop.Secret.Service."
	collectionCall = "org.freedesktop.Secret.Collection.CreateItem"
	itemCall       = "org.freedesktop.Secret.Item.GetSecret"
	promptIface    = "org.freedesktop.Secret.Prompt"
	noObject       = dbus.ObjectPath("/")
)

// secretService keeps keys in the default collection of the desktop's Secret Service.
type secretService struct{ desktop desktop }

// wireSecret is the API's Secret structure (oayays). The session is a plain one: the bus is a
// Unix socket of this user.
type wireSecret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// vault is an open session with the service.
type vault struct {
	*bus
	session dbus.ObjectPath
}

func (s secretService) open() (*vault, error) {
	b, err := s.desktop.dial()
	if err != nil {
		return nil, err
	}
	v := &vault{bus: b}
	var output dbus.Variant
	if err := v.service("OpenSession", []any{"plain", dbus.MakeVariant("")}, &output, &v.session); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *vault) service(method string, args []any, results ...any) error {
	return v.call(secretsName, secretsPath, serviceIface+method, args, results...)
}

func attributes(item string) map[string]string {
	return map[string]string{"application": "sega", "item": item}
}

func (s secretService) quiet() keyStore {
	s.desktop.person = false
	return s
}

func (s secretService) load(item string) (secret.Secret, error) {
	v, err := s.open()
	if err != nil {
		return secret.Secret{}, err
	}
	defer v.close()
	path, err := v.find(item)
	if err != nil {
		return secret.Secret{}, err
	}
	var got wireSecret
	if err := v.call(secretsName, path, itemCall, []any{v.session}, &got); err != nil {
		return secret.Secret{}, err
	}
	defer clear(got.Value)
	return parseKey(string(got.Value))
}

// find returns the unlocked item.
func (v *vault) find(item string) (dbus.ObjectPath, error) {
	var unlocked, locked []dbus.ObjectPath
	if err := v.service("SearchItems", []any{attributes(item)}, &unlocked, &locked); err != nil {
		return "", err
	}
	if len(unlocked) > 0 {
		return unlocked[0], nil
	}
	if len(locked) == 0 {
		return "", errNoItem
	}
	return locked[0], v.unlock(locked[0])
}

func (v *vault) unlock(object dbus.ObjectPath) error {
	var done []dbus.ObjectPath
	var prompt dbus.ObjectPath
	if err := v.service("Unlock", []any{[]dbus.ObjectPath{object}}, &done, &prompt); err != nil {
		return err
	}
	return v.prompt(prompt)
}

// collection returns the default collection, unlocked. Where there is none yet, as on a desktop that
// nobody has logged in to with a password, the service makes one and asks the person for its password.
func (v *vault) collection() (dbus.ObjectPath, error) {
	path, err := v.defaultAlias()
	if err != nil {
		return "", err
	}
	if path != noObject {
		return path, v.unlock(path)
	}
	if !v.desktop.person {
		return "", errNoCollection
	}
	properties := map[string]dbus.Variant{"org.freedesktop.Secret.Collection.Label": dbus.MakeVariant("Default keyring")}
	var prompt dbus.ObjectPath
	if err := v.service("CreateCollection", []any{properties, "default"}, &path, &prompt); err != nil {
		return "", err
	}
	if err := v.prompt(prompt); err != nil {
		return "", err
	}
	if path, err = v.defaultAlias(); err == nil && path == noObject {
		err = errNoCollection
	}
	return path, err
}

var errUnanswered = errors.New("nobody has unlocked it")

var errNoCollection = errors.New("it has no default keyring yet: make one at the desktop, in its program for passwords")

func (v *vault) defaultAlias() (path dbus.ObjectPath, err error) {
	err = v.service("ReadAlias", []any{"default"}, &path)
	return path, err
}

func (s secretService) save(item string, key secret.Secret) error {
	v, err := s.open()
	if err != nil {
		return err
	}
	defer v.close()
	collection, err := v.collection()
	if err != nil {
		return err
	}
	properties := map[string]dbus.Variant{
		"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant("sega"),
		"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(attributes(item)),
	}
	value := wireSecret{Session: v.session, Parameters: []byte{}, Value: []byte(formatKey(key)), ContentType: "text/plain"}
	var created, prompt dbus.ObjectPath
	if err := v.call(secretsName, collection, collectionCall, []any{properties, value, true}, &created, &prompt); err != nil {
		return err
	}
	return v.prompt(prompt)
}

// prompt lets the service ask a person, if it wants to and there is one, and waits for the outcome.
func (v *vault) prompt(path dbus.ObjectPath) error {
	if path == noObject {
		return nil
	}
	if !v.desktop.person {
		return errLocked
	}
	signals := make(chan *dbus.Signal, 8)
	v.Signal(signals)
	rule := "type='signal',interface='" + promptIface + "',member='Completed',path='" + string(path) + "'"
	if err := v.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.AddMatch", []any{rule}); err != nil {
		return err
	}
	return v.ask(func() error {
		if err := v.call(secretsName, path, promptIface+".Prompt", []any{""}); err != nil {
			return err
		}
		return v.completed(path, signals)
	})
}

// completed waits for the prompt's end. The channel closes with the connection. A prompt that nobody
// answers stays on the screen: gnome-keyring 42 dies when it is dismissed.
func (v *vault) completed(path dbus.ObjectPath, signals <-chan *dbus.Signal) error {
	give := time.NewTimer(v.desktop.wait)
	defer give.Stop()
	for {
		select {
		case s, open := <-signals:
			if !open {
				return errSilent
			}
			if s.Path != path || s.Name != promptIface+".Completed" || len(s.Body) == 0 {
				continue
			}
			if dismissed, ok := s.Body[0].(bool); ok && !dismissed {
				return nil
			}
			return errDismissed
		case <-give.C:
			return errUnanswered
		}
	}
}
